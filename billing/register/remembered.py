"""Answers of a register, remembered until somebody writes to it.

A month asks for the same few rows again and again: of ten accounts, half of its 125 reads and a tenth of its time.
"""

import sqlite3
import weakref
from collections.abc import Callable, Hashable
from contextlib import closing, suppress
from copy import copy
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import polars as pl

P = ParamSpec("P")
T = TypeVar("T")

_FEW_ROWS: Final = 1_000
_PATIENCE: Final = 60


class Remembered:
    """Answers that hold as long as nobody commits to a SQLite file, in this process or another one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._answers: dict[Hashable, Any] = {}
        self._version: Hashable = None
        self._watching: sqlite3.Connection | None = None
        self._file: Hashable = None

    def once(self, name: Hashable, read: Callable[[], T]) -> T:
        """The remembered answer of this name, or read it; frames of many rows are read each time."""
        version = self._current_version()
        if version is None:
            return read()
        if version != self._version:
            self._answers.clear()
            self._version = version
        if name not in self._answers:
            answer = read()
            if isinstance(answer, pl.DataFrame) and answer.height > _FEW_ROWS:
                return answer
            self._answers[name] = answer
        # Of a frame another one of the same columns: who changes it in place changes his own.
        found: T = self._answers[name]
        return copy(found)

    def close(self) -> None:
        """Forget all, and let go of the file."""
        self._answers.clear()
        self._file = self._version = None
        if self._watching is not None:
            self._watching.close()
            self._watching = None

    def _current_version(self) -> Hashable:
        """Of the file and its content; None where there is none to be had."""
        try:
            status = self._path.stat()
            file = (status.st_dev, status.st_ino)
            if file != self._file or self._watching is None:
                self.close()
                self._watching = sqlite3.connect(
                    self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
                )
                weakref.finalize(self, self._watching.close)
                self._file = file
            # It changes whenever another connection commits; this one never does.
            with closing(self._watching.execute("PRAGMA data_version")) as found:
                return (file, *found.fetchone())
        except (OSError, sqlite3.Error):
            # The read itself says what is wrong with the register.
            with suppress(sqlite3.Error):
                self.close()
            return None


class _Remembering(Protocol):
    @property
    def memory(self) -> tuple[Remembered, Hashable] | None: ...


R = TypeVar("R", bound=_Remembering)


def remembered(read: Callable[Concatenate[R, P], T]) -> Callable[Concatenate[R, P], T]:
    """Decorate a method that reads a register, and whose arguments are hashable: remember what it found."""

    @wraps(read)
    def found(register: R, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if (answers := register.memory) is None:
            return read(register, *args, **kwargs)
        memory, view = answers
        name = (read.__qualname__, view, args, tuple(kwargs.items()))
        return memory.once(name, lambda: read(register, *args, **kwargs))

    return found
