"""What stands outside of the program: those who type commands, and those who write the landing folder."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import polars as pl
from click.testing import CliRunner

from billing.ingest.landing import delivered_files
from billing.ingest.state import delivery_label, read_state, stamp, write_state
from billing.inputs.reading import Inputs, read_inputs
from billing.model.catalogue import Catalogue
from billing.rendering import Job, RenderedFile
from billing.store.home import Home
from pipeline.cli import main
from tests.landing import GB as GB
from tests.landing import Landing as Landing
from tests.landing import content_of as content_of
from tests.landing import event as event
from tests.pipeline.plain_runs import plain_runs
from tests.read_once import inputs_read_once
from tests.sizes import LONG, sized

Row = dict[str, Any]

LEFT_OUT: Sequence[str] = ("profiles", "billing_report")
"""What commands leave out, half the time of each; fixtures of `conftest.py` put it back."""
PROFILES = ("profiles",)
LOOKING = ("show", "explain", "preview", "what-if", "statement", "forecast", "verify", "compare-invoices")
"""Commands that change nothing: what another has read of the same files they do not read again."""
WITHOUT_REPORTS: Sequence[str] = sized(usual=("billing_report",), long=())
_INPUTS: dict[bytes, Inputs] = {}
"""What was read of landing folders, by their content."""


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    status: int
    output: str
    messages: str


def overage(
    *arguments: object,
    paper: bool = False,
    profiles: bool = False,
    report: bool = False,
    dagster: bool = False,
    register: str | None = None,
) -> Ended:
    """Run a command as a person would, in this process but with an environment of its own.

    Parameters
    ----------
    paper
        Draw PDFs. Without it a file stands in for each, at which the command does not look.
    profiles
        Write what `verify` compares with the register, too: profiles, balances, amounts to collect, the journal.
    report
        Leave nothing out: the report of the month is written as well. A long run writes it with profiles.
    dagster
        Run jobs through Dagster, with its records in memory. Without it the command executes them itself, as it does
        outside of tests, and records nothing.
    register
        The URL of a register on a server; without it the register is in the home.
    """
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ))
        for name in ("DAGSTER_HOME", "OVERAGE_HOME", "OVERAGE_REGISTER_URL"):
            os.environ.pop(name, None)
        if register is not None:
            os.environ["OVERAGE_REGISTER_URL"] = register
        stack.enter_context(in_memory() if dagster else plain_runs(_left_out(profiles, report)))
        stack.enter_context(inputs_read_once(again=arguments[0] not in LOOKING))
        if not paper:
            stack.enter_context(mock.patch("billing.month.pdf_files.render_files", blank_files))
            stack.enter_context(mock.patch("billing.reports.month_report_page.draw_page", blank_page))
        found = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    return Ended(found.exit_code, found.stdout, found.stderr)


def _left_out(profiles: bool, report: bool) -> Sequence[str]:
    """The jobs that a command leaves out."""
    if report or (profiles and LONG):
        return ()
    return [job for job in LEFT_OUT if not profiles or job not in PROFILES]


@contextmanager
def in_memory() -> Iterator[None]:
    """Dagster's records are kept in memory, and forgotten."""
    with (
        mock.patch("pipeline.runs.has_own_instance", lambda: True),
        mock.patch("dagster.DagsterInstance.get", dg.DagsterInstance.ephemeral),
        mock.patch("pipeline.dagster_jobs.open_instance", lambda folder: dg.DagsterInstance.ephemeral()),
    ):
        yield


def bill(home: Path, month: str, as_of: str, *arguments: str, **how: Any) -> Ended:
    """`overage bill`, as of a day; `how` as `overage`."""
    return overage("bill", month, "--as-of", as_of, "--home", home, *arguments, **how)


def bill_once(home: Path, month: str, as_of: str, *arguments: str, **how: Any) -> Ended:
    """`bill`; where this process has billed the same home in the same way before, what it left is copied.

    For what stands before a test: nothing of the product may be patched, and the register is in the home.
    """
    asked = repr((sorted(content_of(home).items()), month, as_of, arguments, sorted(how.items()), LEFT_OUT))
    kept = Path(_billed_once().name) / hashlib.sha256(asked.encode()).hexdigest()
    if kept.exists():
        for path in _outside_of_landing(home):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(kept / "home", home, dirs_exist_ok=True)
        know_delivered_files(home)
        ended = Ended(**json.loads((kept / "ended.json").read_text()))
        return replace(ended, messages=ended.messages.replace("$HOME", str(home)))
    ended = bill(home, month, as_of, *arguments, **how)
    shutil.copytree(home, kept / "home", ignore=lambda folder, _: ["landing"] if Path(folder) == home else [])
    told = replace(ended, messages=ended.messages.replace(str(home), "$HOME"))
    (kept / "ended.json").write_text(json.dumps(asdict(told)))
    return ended


@cache
def _billed_once() -> tempfile.TemporaryDirectory[str]:
    """Gone when the process ends."""
    return tempfile.TemporaryDirectory(prefix="billed-once-")


def know_delivered_files(home: Path) -> None:
    """Let the state of ingest name the delivered files of this home, and not those of which it is a copy."""
    known = Home(home)
    state = read_state(known)
    if state is not None:
        delivered = {delivery_label(file.day, file.name): file for file in delivered_files(known, None).files}
        write_state(known, replace(state, stamps={label: stamp(delivered[label]) for label in state.stamps}))


def _outside_of_landing(home: Path) -> list[Path]:
    return [path for path in home.iterdir() if path.name != "landing"]


def show(home: Path, table: str, *arguments: str, **wanted: object) -> list[Row]:
    """The rows of a table as `overage show` prints them, those with the wanted values."""
    with mock.patch("billing.month.business.read_inputs", read_inputs if LONG else _inputs_read_once):
        ended = overage("show", table, "--format", "json", "--home", home, *arguments)
    assert (ended.status, ended.messages) == (0, "")
    rows: list[Row] = json.loads(ended.output)
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def _inputs_read_once(
    home: Home, catalogue: Catalogue, billed: pl.Series | None = None, issued: pl.DataFrame | None = None
) -> Inputs:
    """What `read_inputs` returns; where a table of the same landing folder was shown before, what it read then.

    Reading takes four fifths of a small home's `show`, and other commands do it each time.
    """
    told = (home, None if billed is None else billed.to_list(), None if issued is None else issued.rows())
    known = hashlib.sha256(repr(told).encode())
    for folder, folders, names in os.walk(home.landing, followlinks=True):
        # usage is ingested, and no input of this kind
        folders[:] = sorted(set(folders) - ({"usage"} if Path(folder) == home.landing else set()))
        for path in (Path(folder, name) for name in sorted(names)):
            known.update(f"{path}\0".encode())
            known.update(path.read_bytes() if path.is_file() else b"")
    key = known.digest()
    if key not in _INPUTS:
        # a module's homes at most
        if len(_INPUTS) == 32:
            _INPUTS.clear()
        _INPUTS[key] = read_inputs(home, catalogue, billed, issued)
    return _INPUTS[key]


def one(rows: list[Row]) -> Row:
    (row,) = rows
    return row


def total_of(rows: Iterable[Row], column: str = "amount") -> Decimal:
    return sum((Decimal(row[column]) for row in rows), Decimal(0))


def blank_page(html: str, sheet: str) -> bytes:
    """Stands in for the drawing of a month's report."""
    return f"{sheet}: {len(html)}".encode()


def blank_files(jobs: Iterable[Job], **__: object) -> Iterator[RenderedFile]:
    """Stands in for the renderer: a file with the content that would be drawn."""
    for content, path, *_ in jobs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        yield RenderedFile(path, hashlib.sha256(content.encode()).hexdigest(), len(content.encode()), pages=1)
