"""Move a business in from one table: check it, write new files into landing, and draft what follows (rule 38)."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import polars as pl

from billing.inputs.accounts import read_accounts
from billing.inputs.catalogue_file import load_catalogue
from billing.inputs.input_files import input_files
from billing.inputs.move_in_table import MoveIn, read_move_in
from billing.inputs.row_checks import RowsRead
from billing.model.calendar import months_after
from billing.model.catalogue import Catalogue
from billing.model.codes import DecisionKind, Outcome
from billing.model.errors import RefusedError
from billing.model.plain_rows import plain_rows
from billing.model.tables import DRAFT_LINES, DRAFTS
from billing.month.business import Business
from billing.month.scratch_copy import bring_up_to_date, scratch_copy
from billing.month.steps import ingest_usage
from billing.reports.row_decimals import decimals_of
from billing.store.files import write_bytes
from billing.store.home import Home
from billing.store.temporary_folder import temporary_folder

_MOST_PROBLEMS: Final = 20
_DRAFT_COLUMNS: Final = ("account_id", "billing_date", "kind", "currency", "net", "tax", "total", "lines")


@dataclass(frozen=True)
class MovedIn:
    """What a move wrote, and what follows from it.

    Attributes
    ----------
    files
        Paths below landing.
    counts
        Rows by name: accounts, requests, opening_balances, and credit_grants where there are any.
    drafts
        The first draft of each account, as plain values.
    without_draft
        account_id and why of the other accounts.
    warnings
        In words.
    """

    files: Sequence[str]
    counts: Mapping[str, int]
    drafts: Sequence[dict[str, Any]]
    without_draft: Sequence[dict[str, str]]
    warnings: Sequence[str]


def move_in(root: Path, path: Path, as_of: date, register_url: str | None = None) -> MovedIn:
    """Write accounts, requests, opening balances and credits from one table as new files, and draft what follows.

    The files are checked by the readers that every run uses before any of them is written; no existing file changes.

    Raises
    ------
    RefusedError
        When there is no home, an account is there already, or a row is wrong: then nothing was written.
    """
    home = Home(root)
    if not home.landing.is_dir():
        raise RefusedError(
            f"{root}: this is no billing home: expected a folder `landing` in it (`overage init` makes one)"
        )
    catalogue = load_catalogue(home.landing / "catalogue.yaml")
    table = read_move_in(path, catalogue, _known_accounts(home, catalogue))
    files = _files(table)
    accounts = table.accounts["account_id"]
    with temporary_folder("overage-move-in-") as folder:
        tried = _tried(home, files, folder, as_of)
        if problems := _problems(tried, accounts):
            more = [f"  and {len(problems) - _MOST_PROBLEMS} more"] if len(problems) > _MOST_PROBLEMS else []
            shown = [f"  {problem}" for problem in problems[:_MOST_PROBLEMS]]
            left = [f"  {name}: left by a move that was interrupted" for name in _left_files(home, files)]
            ways = ["  run that move with its table again, or remove what it left"] if left else []
            raise RefusedError("\n".join([f"{path}: nothing is moved in", *shown, *more, *left, *ways]))
        warnings = tried.inputs.warnings
    for name, content in files.items():
        target = home.landing / name
        if target.exists() and target.read_bytes() != content:
            raise RefusedError(f"{target}: found a file of other content, expected none: nothing is overwritten")
    for name, content in files.items():
        write_bytes(home.landing / name, content)
    drafts, without = _first_drafts(Business.load(root, as_of, register_url, issues=False), accounts, table.requests)
    counts = {
        "accounts": table.accounts.height,
        "requests": table.requests.height,
        "opening_balances": table.opening_balances.height,
    }
    if not table.credit_grants.is_empty():
        counts["credit_grants"] = table.credit_grants.height
    return MovedIn(list(files), counts, drafts, without, warnings)


def _known_accounts(home: Home, catalogue: Catalogue) -> pl.Series:
    if not input_files(home, "accounts"):
        return pl.Series("account_id", dtype=pl.String)
    return read_accounts(home, catalogue, RowsRead())["account_id"]


def _files(table: MoveIn) -> dict[str, bytes]:
    """Contents by path below landing. Accounts come last: the other rows count only once their accounts are known."""
    requests = table.requests.write_ndjson().encode()
    contents = {
        "opening_balances": (".csv", _csv(table.opening_balances)),
        "credit_grants": (".csv", _csv(table.credit_grants)),
        "requests": (".jsonl", requests),
        "accounts": (".csv", _csv(table.accounts)),
    }
    digest = hashlib.sha256(b"".join(content for _, content in contents.values())).hexdigest()[:12]
    return {f"{name}/move-in-{digest}{ending}": content for name, (ending, content) in contents.items() if content}


def _left_files(home: Home, files: Mapping[str, bytes]) -> list[str]:
    """Files of earlier moves that lack the accounts, which are written last."""
    moves: dict[str, list[str]] = {}
    for folder in ("accounts", "opening_balances", "credit_grants", "requests"):
        for path in sorted((home.landing / folder).glob("move-in-*")):
            moves.setdefault(path.stem, []).append(f"{folder}/{path.name}")
    return [
        name
        for names in moves.values()
        if not any(name.startswith("accounts/") for name in names)
        for name in names
        if name not in files
    ]


def _csv(frame: pl.DataFrame) -> bytes:
    return b"" if frame.is_empty() else frame.write_csv().encode()


def _tried(home: Home, files: Mapping[str, bytes], folder: Path, as_of: date) -> Business:
    """The business as it would be read with the new files, in a folder that has the others by links."""
    landing = folder / "landing"
    landing.mkdir()
    for entry in sorted(home.landing.iterdir()):
        if entry.name == "usage" or entry.name.startswith("."):
            continue
        if entry.is_dir():
            (landing / entry.name).mkdir()
            for inside in sorted(entry.iterdir()):
                (landing / entry.name / inside.name).symlink_to(inside.resolve())
        else:
            (landing / entry.name).symlink_to(entry.resolve())
    for name, content in files.items():
        (landing / name).unlink(missing_ok=True)
        write_bytes(landing / name, content)
    return Business.load(folder, as_of, issues=False)


def _problems(tried: Business, accounts: pl.Series) -> list[str]:
    """What is wrong with the new rows, in words."""
    whose = pl.col("account_id").is_in(accounts.implode())
    rejects = tried.inputs.rejects.filter(whose & pl.col("file").str.contains("/move-in-"))
    everything = tried.at(date.max)
    refused = everything.lives.answers.filter(whose & (pl.col("outcome") == Outcome.REFUSED))
    parked = everything.parked.filter(whose)
    return [
        *(f"account {account}: {detail}" for account, detail in rejects.select("account_id", "detail").iter_rows()),
        *(f"account {account}: {detail}" for account, detail in parked.select("account_id", "detail").iter_rows()),
        *(
            f"account {account}: its {kind} of {day} would be refused ({reason})"
            for account, kind, day, reason in refused.filter(
                ~pl.col("account_id").is_in(parked["account_id"].implode())
            )
            .select("account_id", "kind", "on", "reason")
            .iter_rows()
        ),
    ]


def _first_drafts(
    business: Business, accounts: pl.Series, requests: pl.DataFrame
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """The first draft of each account, and why others have none: of the first months in which there is one."""
    lives = business.lives.subscriptions.filter(pl.col("account_id").is_in(accounts.implode()))
    first = lives.sort("started_on").group_by("account_id", maintain_order=True).last()
    days = first["first_billing_date"].drop_nulls()
    drafts, lines = pl.DataFrame(), pl.DataFrame()
    start = days.min()
    if isinstance(start, date):
        latest = days.filter(days < date.fromisoformat(f"{months_after(f'{start:%Y-%m}', 2)}-01")).max()
        assert isinstance(latest, date)  # noqa: S101 # the first of them is among these
        with scratch_copy(business, business.as_of) as scratch:
            ingest_usage(scratch)
            bring_up_to_date(scratch, f"{latest:%Y-%m}")
            months = sorted({f"{day:%Y-%m}" for day in days if day <= latest})
            drafts = scratch.scan_months(DRAFTS, months).drop("content").collect()
            lines = scratch.scan_months(DRAFT_LINES, months).collect()
    found = _with_lines(drafts, lines, accounts, business) if drafts.width else []
    drafted = {row["account_id"] for row in found}
    subscribed = {row["account_id"]: row for row in first.iter_rows(named=True)}
    starts = dict(requests.filter(pl.col("kind") == DecisionKind.SUBSCRIBE).select("account_id", "at").iter_rows())
    without = [
        {"account_id": account, "why": _why_not(subscribed.get(account), starts.get(account))}
        for account in accounts.sort()
        if account not in drafted
    ]
    return found, without


def _with_lines(
    drafts: pl.DataFrame, lines: pl.DataFrame, accounts: pl.Series, business: Business
) -> list[dict[str, Any]]:
    keys = ["account_id", "subscription_id", "billing_date"]
    mine = drafts.filter(pl.col("account_id").is_in(accounts.implode())).sort("account_id", "billing_date")
    first = mine.unique("account_id", keep="first", maintain_order=True)
    listed = (
        lines.join(first.select(keys), on=keys, how="semi")
        .sort(*keys, "line")
        .group_by(keys, maintain_order=True)
        .agg(lines=pl.struct("kind", "metric", "description", "amount"))
    )
    found = first.join(listed, on=keys, how="left", maintain_order="left").select(_DRAFT_COLUMNS)
    return plain_rows(found, decimals_of(business, found))


def _why_not(life: dict[str, Any] | None, starts_at: str | None) -> str:
    if life is None:
        return f"its subscription starts later, at {starts_at}" if starts_at else "it has no subscription"
    if life["end"] is not None:
        return f"{life['end']} on {life['ended_on']}"
    if life["held_on"] is not None:
        return f"on hold since {life['held_on']}"
    return f"nothing is due on its first billing date here, {life['first_billing_date']}, or that is months away"
