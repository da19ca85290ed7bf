"""Commands that are killed, as by `kill -9`, at a chosen write: found by listening to every write, not by guessing.

A process of its own loads everything once, and asks Polars nothing, which would start its threads: so it may be forked.
Each command runs in a fork that counts its writes (files opened to write, renamed, removed or linked, folders made,
statements that change the register, commits) and kills itself just before the wanted one.

What a process has given to the operating system outlives it. So a copy of the home, made just before a write, is what
a kill at that place leaves: one run gives the homes of all of its kills.
"""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from unittest import mock

from tests.sizes import sized

KILLS = sized(usual=1, long=0)
"""How many places are tried, spread over a run; 0 means every one."""
EVERY = sized(usual=60, long=1)
"""Of the writes from which places are chosen, before one of how many the home is kept."""

_FILES = {"os.rename", "os.remove", "os.mkdir", "os.link", "os.rmdir", "os.truncate"}
_LANDING = ("landing",)
_CHANGES = ("INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER")


@dataclass(frozen=True)
class Died:
    """How a command ended: its exit status (None when it was killed), and the writes it came to, in words."""

    status: int | None
    writes: list[str]


class Killer:
    """Runs `overage` in forks, and kills them on demand."""

    def __enter__(self) -> "Killer":
        command = [sys.executable, "-m", "tests.pipeline.killing"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe(self._process.stdin).close()
        self._process.wait()
        self._pipe(self._process.stdout).close()

    def run(
        self,
        *arguments: object,
        kill_at: int | None = None,
        kept: Path | None = None,
        every: int = 1,
        register: str | None = None,
        records: bool = False,
        left_out: Sequence[str] = (),
    ) -> Died:
        """Run a command to its end, or up to just before its write number `kill_at` (the first is 0).

        Parameters
        ----------
        kept
            A folder in which the home is kept as it is just before each write, by the number of the write, where it is
            another than before the last one; without its landing folder.
        every
            Look only before one of so many writes.
        register
            The URL of a register on a server; without it the register is in the home.
        records
            Count the writes of Dagster's records in the home, and not those of the business. Otherwise there are none.
        left_out
            Jobs that the command leaves out.
        """
        asked = self._pipe(self._process.stdin)
        wanted = {
            "arguments": [str(each) for each in arguments],
            "kill_at": kill_at,
            "kept": None if kept is None else str(kept),
            "every": every,
            "register": register,
            "records": records,
            "left_out": list(left_out),
        }
        asked.write(json.dumps(wanted) + "\n")
        asked.flush()
        answer = self._pipe(self._process.stdout).readline()
        return Died(**json.loads(answer))

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


def _serve() -> None:
    # loaded by the process that is forked, not by the tests
    for name in (
        *("alembic.command", "dagster._core.storage.event_log", "sqlalchemy.dialects.sqlite"),
        *("pipeline.cli", "pipeline.runs", "pipeline.dagster_jobs"),
        *("tests.pipeline.outside", "tests.pipeline.plain_runs"),
    ):
        import_module(name)
    gc.freeze()

    for line in sys.stdin:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            _run(**json.loads(line), log=write)
        os.close(write)
        with os.fdopen(read) as writes:
            found = writes.read().splitlines()
        _, ended = os.waitpid(child, 0)
        status = os.waitstatus_to_exitcode(ended)
        sys.stdout.write(json.dumps({"status": None if status == -signal.SIGKILL else status, "writes": found}) + "\n")
        sys.stdout.flush()


def _run(
    arguments: list[str],
    kill_at: int | None,
    kept: str | None,
    every: int,
    register: str | None,
    records: bool,
    left_out: list[str],
    log: int,
) -> None:
    """Run a command in this fork, and never return."""
    import sqlalchemy as sa  # as above

    from pipeline.cli import main  # as above
    from tests.pipeline.outside import blank_page  # as above
    from tests.pipeline.plain_runs import plain_runs  # as above

    count = 0
    home = arguments[arguments.index("--home") + 1]
    seen: dict[str, tuple[int, ...]] | None = None
    is_keeping = False

    def without_landing(folder: str, _: list[str]) -> tuple[str, ...]:
        return _LANDING if folder == home else ()

    def write(what: str) -> None:
        nonlocal count, seen, is_keeping
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(log, (what.replace("\n", " ") + "\n").encode())
        if kept is not None and count % every == 0:
            is_keeping = True
            found = _stamps(home)
            if found != seen:
                shutil.copytree(home, Path(kept) / str(count), ignore=without_landing)
            seen, is_keeping = found, False
        count += 1

    def is_counted(path: object) -> bool:
        return str(path).startswith(f"{home}/") and str(path).startswith(f"{home}/.dagster") == records

    def listen(event: str, values: tuple[Any, ...]) -> None:
        if is_keeping or (event not in _FILES and event != "open") or not is_counted(values[0]):
            return
        if event != "open" or values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            write(f"{event} {str(values[0])[len(home) :]}")

    def is_of_counted(connection: sa.Connection) -> bool:
        url = connection.engine.url
        return (url.drivername.startswith("postgresql") and not records) or is_counted(url.database)

    def change(connection: sa.Connection, _cursor: object, statement: str, *_: object) -> None:
        if is_of_counted(connection) and statement.lstrip().upper().startswith(_CHANGES):
            write(statement.strip()[:40])

    def commit(connection: sa.Connection) -> None:
        if is_of_counted(connection):
            write("commit")

    if register is not None:
        os.environ["OVERAGE_REGISTER_URL"] = register
    sys.addaudithook(listen)
    sa.event.listen(sa.Engine, "before_cursor_execute", change)
    sa.event.listen(sa.Engine, "commit", commit)
    silent = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(silent, stream)
    status = 1
    try:
        with (
            mock.patch("billing.month.pdf_files.render_files", _drawn),
            mock.patch("billing.reports.month_report_page.draw_page", blank_page),
            mock.patch("pipeline.runs.has_own_instance", lambda: True) if records else plain_runs(left_out),
        ):
            main(arguments, standalone_mode=True)
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        os._exit(status)


def _stamps(home: str) -> dict[str, tuple[int, ...]]:
    """What the file system says of every file and folder of a home but its landing folder."""
    found: dict[str, tuple[int, ...]] = {}
    for folder, folders, names in os.walk(home):
        if folder == home:
            folders[:] = [name for name in folders if name not in _LANDING]
        for name in (*folders, *names):
            stat = (Path(folder) / name).stat()
            # a folder that only saw a scratch file come and go is as it was
            found[f"{folder}/{name}"] = (
                (stat.st_ino,) if name in folders else (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            )
    return found


def _drawn(jobs: Iterable[Any], **__: object) -> Iterator[Any]:
    """Stands in for the renderer, whose own processes would outlive a kill: the content, put in place at once."""
    import hashlib  # as above

    from billing.rendering import RenderedFile  # as above
    from billing.store.files import write_bytes  # as above

    for text, path, *_ in jobs:
        content = text.encode()
        write_bytes(path, content)
        yield RenderedFile(path, hashlib.sha256(content).hexdigest(), len(content), pages=1)


if __name__ == "__main__":
    _serve()
