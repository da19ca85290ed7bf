"""Commands that are killed, as by `kill -9`, at a chosen write: found by listening to every write, not by guessing.

A process of its own loads what takes longest once, but nothing that starts threads, so that it may be forked: each
command runs in a fork that counts its writes (files opened to write, renamed, removed or linked, folders made,
statements that change the register, commits) and kills itself just before the wanted one.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from unittest import mock

_FILES = {"os.rename", "os.remove", "os.mkdir", "os.link", "os.rmdir", "os.truncate"}
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

    def run(self, *arguments: object, kill_at: int | None = None, register: str | None = None) -> Died:
        """Run a command to its end, or up to just before its write number `kill_at` (the first is 0).

        Parameters
        ----------
        register
            The URL of a register on a server; without it the register is in the home.
        """
        asked = self._pipe(self._process.stdin)
        wanted = {"arguments": [str(each) for each in arguments], "kill_at": kill_at, "register": register}
        asked.write(json.dumps(wanted) + "\n")
        asked.flush()
        answer = self._pipe(self._process.stdout).readline()
        return Died(**json.loads(answer))

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


def _serve() -> None:
    import dagster as dg  # loaded by the process that is forked, not by the tests

    with mock.patch("dagster.DagsterInstance.get", dg.DagsterInstance.ephemeral):
        for line in sys.stdin:
            asked = json.loads(line)
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(read)
                _run(asked["arguments"], asked["kill_at"], asked["register"], write)
            os.close(write)
            with os.fdopen(read) as writes:
                found = writes.read().splitlines()
            _, ended = os.waitpid(child, 0)
            status = os.waitstatus_to_exitcode(ended)
            sys.stdout.write(
                json.dumps({"status": None if status == -signal.SIGKILL else status, "writes": found}) + "\n"
            )
            sys.stdout.flush()


def _run(arguments: list[str], kill_at: int | None, register: str | None, log: int) -> None:
    """Run a command in this fork, and never return."""
    import sqlalchemy as sa  # as above

    from pipeline.cli import main  # as above

    count = 0

    def write(what: str) -> None:
        nonlocal count
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(log, (what.replace("\n", " ") + "\n").encode())
        count += 1

    home = arguments[arguments.index("--home") + 1]

    def listen(event: str, values: tuple[Any, ...]) -> None:
        if (event not in _FILES and event != "open") or f"{home}/.dagster" in str(values[0]):
            return
        if event == "open" and isinstance(values[0], str) and values[0].startswith(home):
            if values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
                write(f"open {values[0][len(home) :]}")
        elif event in _FILES and str(values[0]).startswith(home):
            write(f"{event} {str(values[0])[len(home) :]}")

    def is_register(connection: sa.Connection) -> bool:
        # Dagster's own records of a run are not the business's
        url = connection.engine.url
        return url.drivername.startswith("postgresql") or url.database == f"{home}/register.db"

    def change(connection: sa.Connection, _cursor: object, statement: str, *_: object) -> None:
        if is_register(connection) and statement.lstrip().upper().startswith(_CHANGES):
            write(statement.strip()[:40])

    def commit(connection: sa.Connection) -> None:
        if is_register(connection):
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
        with mock.patch("billing.month.render_files", _drawn):
            main(arguments, standalone_mode=True)
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        os._exit(status)


def _drawn(jobs: Iterable[tuple[str, Path]], **_: object) -> Iterator[Any]:
    """Stands in for the renderer, whose own processes would outlive a kill: the content, put in place at once."""
    import hashlib  # as above

    from billing.home import write_bytes  # as above
    from billing.rendering import RenderedFile  # as above

    for text, path in jobs:
        content = text.encode()
        write_bytes(path, content)
        yield RenderedFile(path, hashlib.sha256(content).hexdigest(), len(content), pages=1)


if __name__ == "__main__":
    _serve()
