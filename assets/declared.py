"""Assets as they are declared: what is made, from what, by which function, and what the function yields.

Knows no Dagster. `assets.dagster_graph` makes Dagster's definitions of them; `pipeline.direct_runs` executes them for a
command, which then does not load Dagster.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from billing.model.columns import Table
from billing.register.register import Register
from billing.store.home import Home
from billing.store.working_files import EVERYTHING, Needs


@dataclass(frozen=True)
class Markdown:
    """Metadata that pages show as Markdown."""

    text: str


@dataclass(frozen=True)
class Link:
    """Metadata that pages show as a link."""

    url: str


@dataclass(frozen=True)
class Place:
    """Metadata that is the path of a file or folder."""

    path: str


Value = Markdown | Link | Place | str | int | float | list[str]
Metadata = Mapping[str, Value]


class Severity(StrEnum):
    """How much a check matters that does not hold."""

    WARN = "WARN"
    ERROR = "ERROR"


@dataclass(frozen=True)
class Check:
    """A check of an asset; one that blocks and fails as an error stops what follows."""

    name: str
    asset: str
    description: str
    blocking: bool = False


@dataclass(frozen=True)
class MonthBefore:
    """A dependency on an asset's previous month."""

    name: str


@dataclass(frozen=True)
class Asset:
    """An asset; `table` has its columns, where it is a table."""

    name: str
    description: str
    deps: Sequence[str | MonthBefore] = ()
    kinds: frozenset[str] = frozenset()
    table: Table | None = None
    group: str = ""


@dataclass(frozen=True)
class Made:
    """An asset was materialized: that of the operation, or the named one of several."""

    metadata: Metadata = field(default_factory=dict)
    asset: str | None = None


@dataclass(frozen=True)
class Checked:
    """The result of a check; of an operation with one asset it need not name it."""

    name: str
    passed: bool
    metadata: Metadata = field(default_factory=dict)
    severity: Severity = Severity.ERROR
    asset: str | None = None


class Step(Protocol):
    """What an operation knows of its run."""

    @property
    def name(self) -> str:
        """Name of the operation."""
        ...

    @property
    def month(self) -> str:
        """The billing month of the run."""
        ...

    @property
    def days(self) -> Sequence[str]:
        """The delivery days of the run."""
        ...

    @property
    def run_id(self) -> str:
        """The run's id."""
        ...

    @property
    def tags(self) -> Mapping[str, str]:
        """The run's tags."""
        ...

    def warn(self, message: str) -> None:
        """Write a warning to the run's log."""
        ...

    def at_work(self, home: Home, register: Register, needs: Needs = EVERYTHING) -> AbstractContextManager[None]:
        """Be the only run at work in the home."""
        ...


Yielded = Iterator[Made | Checked]
Work = Callable[..., Yielded]
"""Of a `Step`, a `BillingHome` and, where the operation has one, its configuration."""


@dataclass(frozen=True)
class Operation:
    """A function and the assets that it makes.

    Attributes
    ----------
    config
        Dataclass of the run configuration.
    is_one
        Declared by `asset`: its only asset has its name.
    is_single_run
        Several days are one run.
    """

    name: str
    work: Work
    assets: Sequence[Asset]
    checks: Sequence[Check]
    config: type[Any] | None = None
    is_one: bool = False
    is_single_run: bool = False

    def check_of(self, result: Checked) -> Check:
        """The declaration of a check."""
        return next(each for each in self.checks if each.name == result.name)


def asset(
    *,
    group: str,
    description: str,
    deps: Sequence[str | MonthBefore],
    kinds: set[str],
    name: str = "",
    table: Table | None = None,
    checks: Sequence[Check] = (),
    config: type[Any] | None = None,
) -> Callable[[Work], Operation]:
    """Declare an asset; it is named after its function, or as given."""

    def declared(work: Work) -> Operation:
        called = name or work.__name__
        made = Asset(called, description, tuple(deps), frozenset(kinds), table, group)
        return Operation(called, work, (made,), tuple(checks), config, is_one=True)

    return declared


def assets_of(
    *,
    name: str,
    group: str,
    assets: Sequence[Asset],
    checks: Sequence[Check] = (),
    config: type[Any] | None = None,
    is_single_run: bool = False,
) -> Callable[[Work], Operation]:
    """Declare several assets that one function makes."""

    def declared(work: Work) -> Operation:
        grouped = tuple(
            Asset(each.name, each.description, tuple(each.deps), each.kinds, each.table, group) for each in assets
        )
        return Operation(name, work, grouped, tuple(checks), config, is_single_run=is_single_run)

    return declared
