"""A business lives twice, in one piece and in shards whose number changes with every run, and has the same history.

Runs are killed at any of their writes and run again, perhaps with another number of shards; months are corrected.
"""

import os
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any, Final
from unittest import mock

import polars as pl
import pytest

from billing.model.calendar import months_after
from billing.month.business import Business
from billing.month.checks import surges
from billing.month.corrections import issue_corrections
from billing.month.recorded_inputs.months import moved_inputs
from billing.month.steps import billed_months
from billing.reports.preview import preview_month
from billing.reports.profiles import account_profiles, allocations, balances, collections
from billing.reports.verify import disagreements
from tests.billing.month.test_shards import registered, tables
from tests.by_steps import bill_by_steps
from tests.life_story.business import Story, story
from tests.long_runs import long_only

SEEDS: Final = range(1, 30)
ACCOUNTS: Final = 12
MONTHS: Final = 9
COUNTS: Final = (1, 2, 3, 5)
WRITES: Final = 40
VIEWS: Final[dict[str, Callable[[Business], pl.DataFrame]]] = {
    "balances": balances,
    "collections": collections,
    "allocations": allocations,
    "surges": surges,
    "parked": lambda business: business.parked,
    "payments": lambda business: business.payments,
    "unknown payments": lambda business: business.unknown_payments,
    "suspensions": lambda business: business.suspensions,
}


class Killed(BaseException):
    """A process that is gone: nothing catches it."""


@long_only("month/test_shards bills whatever is sold in shards, and shards that were killed")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_life_in_shards_is_that_of_one_piece(seed: int, tmp_path: Path) -> None:
    told, draw = story(seed, ACCOUNTS, MONTHS), random.Random(seed)  # noqa: S311 # a story, not a secret
    homes = (tmp_path / "whole", tmp_path / "shards")
    previous: date | None = None
    whole: Business | None = None
    for day in told.days:
        if previous is not None and whole is not None:
            _pay(told, previous, day, whole)
        for home in homes:
            told.write(home / "landing", previous, day)
        month = f"{day:%Y-%m}"
        whole = bill_by_steps(homes[0], month, str(day), shards=1)
        if draw.random() < 0.4:
            _bill_until_killed(homes[1], month, str(day), draw.choice(COUNTS), draw.randrange(1, WRITES))
        sharded = bill_by_steps(homes[1], month, str(day), shards=draw.choice(COUNTS))
        _agree(whole, sharded)
        if draw.random() < 0.3 and (issued := whole.register.issued_months()):
            corrected = draw.choice(issued)
            notes = [issue_corrections(each, corrected, "as agreed") for each in (whole, sharded)]
            assert notes[0].equals(notes[1])
            _agree(whole, sharded)
            whole = bill_by_steps(homes[0], month, str(day), shards=1)
            sharded = bill_by_steps(homes[1], month, str(day), shards=draw.choice(COUNTS))
            _agree(whole, sharded)
        sharded = Business.load(homes[1], day, shards=draw.choice(COUNTS))
        assert [
            moved_inputs(sharded, each) for each in billed_months(sharded, month) if moved_inputs(sharded, each)
        ] == []
        previous = day
    assert whole is not None
    following = months_after(month, 1)
    previews = [preview_month(each.at(day, issues=False), following).changes for each in (whole, sharded)]
    assert previews[0].equals(previews[1])
    profiles = [account_profiles(each, day) for each in (whole, sharded)]
    assert profiles[0].equals(profiles[1])
    # No PDF was drawn here.
    assert [told for told in disagreements(sharded) if "PDF" not in told] == []


def _pay(told: Story, previous: date, day: date, business: Business) -> None:
    returned = {each["document"] for each in told.payments if each["status"] in ("refunded", "disputed")}
    paid = {each["document"] for each in told.payments if each["status"] == "succeeded"}
    documents = business.register.documents().select("number", "account_id", "total").iter_rows()
    told.pay(previous, day, [each for each in documents if each[0] not in paid], sorted(paid - returned))


def _bill_until_killed(home: Path, month: str, day: str, shards: int, writes: int) -> None:
    left = iter(range(writes))
    replace = os.replace

    def replace_or_die(*arguments: Any, **named: Any) -> None:
        if next(left, None) is None:
            raise Killed
        replace(*arguments, **named)

    with suppress(Killed), mock.patch("os.replace", replace_or_die):
        bill_by_steps(home, month, day, shards=shards)


def _agree(whole: Business, sharded: Business) -> None:
    one, other = ({key: rows for key, rows in tables(each).items() if rows.height} for each in (whole, sharded))
    where = f"as of {whole.as_of} ({sharded.home.root})"
    assert one.keys() == other.keys(), where
    assert [key for key in one if not one[key].equals(other[key])] == [], where
    registers = zip(registered(whole), registered(sharded), strict=True)
    assert [place for place, (rows, again) in enumerate(registers) if not rows.equals(again)] == [], where
    assert [name for name, view in VIEWS.items() if not view(whole).equals(view(sharded))] == [], where
