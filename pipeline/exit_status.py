"""Exit status and one clear message of whatever a command returns or raises."""

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from pathlib import Path
from typing import Any

import click

from billing.model.errors import InterruptedRunError, RefusedError
from pipeline.interrupts import heard_once
from pipeline.output import say
from pipeline.private_files import private_files

# heavy imports stay inside the commands: `overage show` needs no Dagster, `overage --help` needs nothing

DONE, PARTLY, REFUSED = 0, 1, 2

_READS = ("show", "explain", "preview", "verify", "check")

_AGAIN = "What was done stays done: mend what is named, if anything, and run the same command again."


def exit_status(command: Callable[..., int | None]) -> Callable[..., None]:
    """Turn what a command returns or raises into its exit status and one clear message."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            # what is written to start from is for others to write into
            with heard_once(), nullcontext() if command.__name__ in ("init", "sample") else private_files():
                status = command(*args, **kwargs)
        except RefusedError as error:
            say(f"refused: {error}")
            sys.exit(REFUSED)
        except InterruptedRunError as error:
            say(f"interrupted: {error}\n{_AGAIN}")
            sys.exit(PARTLY)
        except KeyboardInterrupt:
            say(f"interrupted by the keyboard\n{_AGAIN}")
            sys.exit(PARTLY)
        except BrokenPipeError:
            # the reader of a pipe went away: nothing more can be said to it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(DONE)
        except OSError as error:
            # what the system refuses has a number; what a file holds has none
            damage = "" if error.errno is not None else _damage(command.__name__, kwargs.get("home"))
            say(damage or f"interrupted: {error.filename or ''}: {error.strerror or error}\n{_AGAIN}")
            sys.exit(PARTLY)
        except (SystemExit, click.ClickException, click.exceptions.Exit):
            raise
        # a native library that panics over a damaged file raises what is no Exception
        except BaseException:
            damage = _damage(command.__name__, kwargs.get("home"))
            if not damage:
                raise
            say(damage)
            sys.exit(PARTLY)
        sys.exit(status or DONE)

    return run


def _damage(command: str, home: Path | None) -> str:
    """What is damaged in the lake of a home and what to do, in words; nothing where every file of it can be read."""
    if home is None or not (home / "lake").is_dir():
        return ""
    from billing.reports.repair import damage_in_words
    from billing.store.home import Home

    damage = damage_in_words(Home(home))
    # who only reads has begun nothing that could be interrupted
    return f"interrupted: {damage}" if damage and command not in _READS else damage
