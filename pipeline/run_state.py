"""State before and after a command's run.

Imports neither Dagster nor the assets: if nothing changed, neither is loaded.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl

from assets.clock import now
from assets.environment import register_url, shards
from billing.model.calendar import months_after
from billing.model.catalogue import AFTER_ISSUE
from billing.model.tables import PARKED, REJECTS
from billing.model.text import counted
from billing.month.business import Business
from billing.month.issued_settings import keep_settings
from billing.month.issuing import refuse_lost_documents
from billing.month.pdf_files import documents_to_render
from billing.month.recorded_inputs.months import built_months, moved_inputs, profiles_digest
from billing.month.recorded_inputs.runs import profiles_built_from, record_run
from billing.month.steps import billed_months, days_to_ingest
from billing.month.unbillable_rows import rows_before_billing_start
from billing.month.unread_files import not_read
from billing.reports.preview_causes import record_given
from billing.reports.show import set_aside
from billing.store.files import folders_synced_once, remove_scratch_files
from billing.store.frames import write_frame
from billing.store.home import Home
from billing.store.lock import is_held
from pipeline.settings import bring_up_to_date

Say = Callable[[str], None]

_MARK: Final = "command_at_work"
_MOST_FILES: Final = 10


@dataclass(frozen=True)
class Outcome:
    """Result of a run.

    Attributes
    ----------
    is_partial
        Everything was done except for `problems`.
    """

    issued: int
    problems: Sequence[str]

    @property
    def is_partial(self) -> bool:
        """Whether an account is parked, a file could not be read, or a document could not be drawn."""
        return bool(self.problems)


def load(root: Path, as_of: date, *, issues: bool) -> Business:
    """As `Business.load`, with the register that the environment names."""
    return Business.load(root, as_of, register_url(), issues=issues, shards=shards())


def done_already(business: Business, month: str, through: str, *, draft: bool, say: Say) -> Outcome | None:
    """Outcome of billing again when nothing changed since; None when there is work to do, or something to refuse.

    Raises
    ------
    RefusedError
        When a month is unknown, or another run is at work.
    """
    for given in (month, through):
        business.refuse_unknown_month(given)
    months = billed_months(business, through)
    is_built = bool(months) and {month, through, *months} <= set(built_months(business))
    if (
        not is_built
        or through < month
        or not business.catalogue.policy.auto_issue
        or runs_backwards(business, draft=draft)
        or (not draft and has_mails_to_send(business, months))
    ):
        return None
    with business.alone():
        if not _is_up_to_date(business, months):
            return None
        say_what_has_not_begun(business, month, through, say)
        begin(business, draft=draft)
        bring_up_to_date(business.home, say)
        warn(business, say)
        for each in months:
            say(f"{each}: nothing moved")
        remember(business, months, profiles_digest(business))
    return outcome(business, months, 0, say)


def say_what_has_not_begun(business: Business, month: str, through: str, say: Say) -> None:
    """Announce months that begin after the as-of day: they are computed ahead as drafts, and not issued."""
    begins_first = max(month, months_after(f"{business.as_of:%Y-%m}", 1))
    if begins_first <= through:
        has = f"{through} has" if begins_first == through else f"{begins_first} to {through} have"
        say(f"{has} not begun as of {business.as_of}: nothing is issued there, only drafts are made")


def _is_up_to_date(business: Business, months: Sequence[str]) -> bool:
    home = business.home
    return (
        # A killed command left work half done.
        not (home.lake / _MARK).exists()
        and not days_to_ingest(business)
        and not any(moved_inputs(business, each) or documents_to_render(business, each) for each in months)
        and profiles_digest(business) == profiles_built_from(home.root)
    )


def has_mails_to_send(business: Business, months: Sequence[str]) -> bool:
    """Whether mails of these months, or of any whose sending failed, are to be sent now."""
    if business.catalogue.policy.send != AFTER_ISSUE:
        return False
    from billing.reports.sending import count_to_send

    return any(count_to_send(business, month, now()) for month in months)


def runs_backwards(business: Business, *, draft: bool) -> bool:
    """Whether documents were issued with a later as-of day than this run's (rule 19)."""
    latest = business.register.latest_issued_on()
    return not draft and latest is not None and business.as_of < latest


def begin(business: Business, *, draft: bool) -> None:
    """First step of every run, under the home's lock.

    Raises
    ------
    RefusedError
        When the register lacks issued documents.
    """
    home = business.home
    if not draft:
        refuse_lost_documents(business)
        if business.register.issued_months() and not business.register.settings():
            # Documents of an earlier version: it recorded no settings.
            keep_settings(business.register, business.catalogue, business.inputs.currencies)
    for folder in (home.lake, home.documents, home.profiles, home.reports):
        remove_scratch_files(folder)


def warn(business: Business, say: Say) -> None:
    """Print the warnings from reading the inputs, and the rows that no month bills."""
    for warning in (*business.inputs.warnings, *rows_before_billing_start(business)):
        say(f"warning: {warning}")


def is_command_at_work(home: Home) -> bool:
    """Whether a command holds the home's lock: what it does is in Dagster's records afterwards only."""
    return (home.lake / _MARK).exists() and is_held(home)


@contextmanager
def marked(home: Home) -> Iterator[None]:
    """Write a marker file that stays only if the command is killed."""
    mark = home.lake / _MARK
    mark.parent.mkdir(parents=True, exist_ok=True)
    # A power cut may take it: what is half done is known by its inputs.
    mark.write_bytes(b"A command is at work here, or was killed.\n")
    try:
        yield
    except Exception:
        mark.unlink(missing_ok=True)
        raise
    mark.unlink(missing_ok=True)


def remember(business: Business, months: Sequence[str], built_from: str) -> None:
    """Write the rejects of all inputs except usage, and record the run.

    Parameters
    ----------
    built_from
        Fingerprint of the profiles' inputs, from `profiles_digest`.
    """
    rejects = pl.concat([business.inputs.rejects, business.unknown_payments])
    with folders_synced_once():
        write_frame(business.home.whole(REJECTS), rejects, REJECTS)
        record_run(business.home.root, business.as_of, built_from)
        # Do not record the inputs while a later month is stale: its changes since the last build must stay visible.
        if months and months[-1] >= max(built_months(business), default=""):
            record_given(business)


def outcome(business: Business, months: Sequence[str], issued: int, say: Say) -> Outcome:
    """Result of a run; prints a summary of the rejects."""
    found = set_aside(business)
    if rows := int(found["rows"].sum()):
        are_set_aside = "is set aside, with its reason" if rows == 1 else "are set aside, with their reasons"
        say(f"{counted(rows, 'row')} {are_set_aside}: overage show rejects --home {business.home.root}")
        for reason, path, count in found.head(_MOST_FILES).iter_rows():
            say(f"  {reason}: {counted(count, 'row')} of {path}")
        if others := found[_MOST_FILES:]["rows"].to_list():
            say(f"  and {counted(sum(others), 'row')} more, of {len(others)} other reasons and files")
    return Outcome(
        issued,
        [
            *not_read(business.home, business.inputs, business.as_of, business.catalogue),
            *parked(business, months),
        ],
    )


def without_pdf(business: Business, month: str) -> list[str]:
    """Messages about issued documents without a PDF; the run has reported why."""
    missing = documents_to_render(business, month)
    if not missing:
        return []
    found = business.register.documents([month]).filter(pl.col("number").is_in(missing))
    return [
        f"{number} of account {account} has no PDF: it is issued as it is, and each run tries to draw it"
        for number, account in found.select("number", "account_id").iter_rows()
    ]


def parked(
    business: Business, months: Sequence[str], *, among: Sequence[str] = (), further: pl.DataFrame | None = None
) -> list[str]:
    """Messages about accounts that could not be billed, each with its first reason.

    Parameters
    ----------
    among
        Of these accounts only; none means all.
    further
        account_id, reason, detail of accounts that a draft alone knows of.
    """
    of_months = business.scan_months(PARKED, months).collect().select("account_id", "reason", "detail")
    found = pl.concat([business.parked, of_months, *([] if further is None else [further])])
    found = found.unique("account_id", keep="first", maintain_order=True)
    if among:
        found = found.filter(pl.col("account_id").is_in(among))
    return [f"account {account} is parked: {detail}" for account, _, detail in found.iter_rows()]
