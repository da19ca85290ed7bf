"""Exit status of a command, with one clear message."""

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from pathlib import Path
from typing import Any

import click

from billing.model.errors import InterruptedRunError, RefusedError
from pipeline.interrupts import report_interrupt_once
from pipeline.output import say
from pipeline.private_files import private_files
from pipeline.stores import checked_out

# Keep heavy imports inside the commands: `overage show` needs no Dagster, `overage --help` needs nothing.

DONE, PARTLY, REFUSED = 0, 1, 2

_WRITE_INPUTS = ("init", "sample", "move_in", "import_payments")
_READS = ("show", "explain", "preview", "verify", "check", "try_", "compare", "export_documents", "what_if")

_AGAIN = "Completed work is kept: fix what is named above, if anything, and run the same command again."


def exit_status(command: Callable[..., int | None]) -> Callable[..., None]:
    """Convert the result or exception of a command to its exit status and one message."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            # Leave new homes and samples readable: others write their inputs.
            umask = nullcontext() if command.__name__ in _WRITE_INPUTS else private_files()
            with report_interrupt_once(), umask, checked_out(command.__name__, kwargs):
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
            # The reader of the pipe closed it: discard further output.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(DONE)
        except OSError as error:
            # Operating system errors have an errno; damaged files do not.
            damage = "" if error.errno is not None else _damage(command.__name__, kwargs.get("home"))
            say(damage or f"interrupted: {error.filename or ''}: {error.strerror or error}\n{_AGAIN}")
            sys.exit(PARTLY)
        except (SystemExit, click.ClickException, click.exceptions.Exit):
            raise
        # A native library panics on a damaged file with a BaseException.
        except BaseException:
            damage = _damage(command.__name__, kwargs.get("home"))
            if not damage:
                raise
            say(damage)
            sys.exit(PARTLY)
        sys.exit(status or DONE)

    return run


def _damage(command: str, home: Path | None) -> str:
    """Damaged lake files and the fix, in words; empty when every file is readable."""
    if home is None or not (home / "lake").is_dir():
        return ""
    from billing.reports.repair import damage_in_words
    from billing.store.home import Home

    damage = damage_in_words(Home(home))
    # A read-only command has nothing to resume.
    return f"interrupted: {damage}" if damage and command not in _READS else damage
