"""What-if against the oracle: the same months under another catalogue, billed in plain Python one account at a time."""

import copy
import random
from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest
import yaml

from billing.inputs.catalogue_file import load_catalogue
from billing.model.calendar import first_day, months_after, months_between
from billing.month.business import Business
from billing.month.true_ups import month_differences
from billing.reports.what_if.comparison import Comparison
from billing.reports.what_if.running import Question, compare_catalogues
from tests.by_steps import bill_by_steps
from tests.life_story.business import TAX_IDS, Json, Story, story
from tests.life_story.offers import FEATURES
from tests.life_story.oracle import Oracle
from tests.life_story.test_life_story import _live, _run
from tests.long_runs import long_only

SEEDS: Final = range(11, 17)
LIVED_SEEDS: Final = range(1, 9)
ACCOUNTS: Final = 25
LIVED_MONTHS: Final = 18
CANDIDATES: Final = 20
MONTHS: Final = 12


@long_only("reports/test_what_if_one_price and pipeline/test_what_if hold the identity law")
@pytest.mark.parametrize("seed", LIVED_SEEDS)
def test_the_catalogue_as_it_is_gives_what_is_due_and_what_was_issued(seed: int, tmp_path: Path) -> None:
    told = story(seed, ACCOUNTS, LIVED_MONTHS, frozenset(FEATURES))
    told.charges = [(written, each) for written, each in told.charges if each["on"] >= "2024-01-01"]
    _live(told, tmp_path)
    last = told.days[-1]
    business = Business.load(tmp_path, last, issues=False)
    first, through = str(business.first_month), f"{last:%Y-%m}"
    for since in months_between(first, through)[::3]:
        found = _compared(business, since, through, tmp_path / "landing" / "catalogue.yaml")
        for name in ("totals", "months", "packages", "metrics", "rules", "lines", "accounts"):
            table = found.tables[name]
            assert table.filter(pl.col("before") != pl.col("after")).is_empty(), name
        assert found.tables["upgrades"].is_empty()
        # What is due and what was issued differ by what is open, and by nothing else.
        opened = month_differences(business, since, f"{last + timedelta(31):%Y-%m}"[:7])
        totals = found.tables["totals"]
        is_open = opened.filter(pl.col("billing_date") >= first_day(since))
        cutoff = last - timedelta(business.catalogue.policy.issue_after_days)
        if is_open.is_empty() and cutoff == last:
            assert totals["before"].to_list() == totals["issued"].to_list()
        elif cutoff == last:
            difference = (is_open["due"] - is_open["issued"]).sum()
            assert (totals["before"] - totals["issued"]).sum() == difference


@long_only("reports/test_what_if_one_price compares candidates with what they bill")
@pytest.mark.parametrize("seed", SEEDS)
def test_another_catalogue_gives_what_the_oracle_bills_under_it(seed: int, tmp_path: Path) -> None:
    told = story(seed, ACCOUNTS, MONTHS, frozenset(FEATURES) - {"credits"})
    # Everything is billed at once: nothing was decided before something else was known.
    told.catalogue["policy"]["issue_after_days"] = 0
    last = first_day(months_after("2024-01", MONTHS)) - timedelta(1)
    told.write(tmp_path / "landing", None, last)
    business = bill_by_steps(tmp_path, f"{last:%Y-%m}", f"{last}")
    rng = random.Random(seed)  # noqa: S311 # a story, not a secret
    before = _billed(told, told.catalogue, last)
    for number in range(CANDIDATES):
        since = f"2024-{rng.choice([month for month in (1, 2, 4, 7, 11) if month < MONTHS]):02d}"
        candidate = _candidate(rng, told.catalogue)
        path = tmp_path / f"candidate-{number}.yaml"
        path.write_text(yaml.safe_dump(candidate, sort_keys=False))
        found = _compared(business, since, f"{last:%Y-%m}", path)
        after = _billed(told, _joined(told.catalogue, candidate, first_day(since)), last)
        where = f"seed {seed}, candidate {number} from {since} ({path})"
        assert _by_account(found, "before") == _since(before, since), where
        assert _by_account(found, "after") == _since(after, since), where


def _compared(business: Business, since: str, through: str, catalogue: Path) -> Comparison:
    [found] = compare_catalogues(business, [("candidate", load_catalogue(catalogue))], Question(since, through))
    return found


def _by_account(found: Comparison, side: str) -> dict[str, Decimal]:
    accounts = found.tables["accounts"]
    return {row["account_id"]: row[side].normalize() for row in accounts.iter_rows(named=True) if row[side]}


def _billed(told: Story, catalogue: Json, last: date) -> dict[tuple[str, date], Decimal]:
    """What the oracle bills for each account and date, refunds taken off."""
    oracle = Oracle(catalogue, told.accounts, told.tax_rates, {text: owner for text, _, owner in TAX_IDS})
    _run(oracle, told, last)
    found: dict[tuple[str, date], Decimal] = defaultdict(Decimal)
    for document in oracle.documents:
        for line in document.lines:
            found[document.account_id, line.due_on] += line.amount
    return found


def _since(billed: dict[tuple[str, date], Decimal], since: str) -> dict[str, Decimal]:
    found: dict[str, Decimal] = defaultdict(Decimal)
    for (account, day), amount in billed.items():
        if day >= first_day(since):
            found[account] += amount
    return {account: amount.normalize() for account, amount in found.items() if amount}


def _joined(home: Json, candidate: Json, since: date) -> Json:
    """The home's versions up to a day, the candidate's from it on; written again for the oracle."""
    joined = copy.deepcopy(candidate)
    old = {each["name"]: each["versions"] for each in (*home["packages"], *home.get("add_ons", []))}
    for each in (*joined["packages"], *joined.get("add_ons", [])):
        new = each["versions"]
        in_force = max((v for v in new if _day(v) <= since), key=_day, default=None)
        turn = since if in_force else min(map(_day, new))
        kept = [v for v in old[each["name"]] if _day(v) < turn]
        first = [{**in_force, "effective_from": since.isoformat()}] if in_force else []
        each["versions"] = [*kept, *first, *(v for v in new if _day(v) > since)]
    return joined


def _day(version: Json) -> date:
    return date.fromisoformat(str(version["effective_from"]))


def _candidate(rng: random.Random, home: Json) -> Json:
    """The catalogue with some of its prices, allowances and offers changed."""
    found = copy.deepcopy(home)
    for _ in range(rng.randint(1, 4)):
        package = rng.choice(found["packages"])
        version = rng.choice(package["versions"])
        change = rng.choice(["price", "allowance", "tariff", "version", "add_on", "coupon", "yearly"])
        if change == "price":
            version["price"]["monthly"] = _times(version["price"]["monthly"], rng.choice([2, 3, 0]))
        elif change == "allowance":
            metric = rng.choice(["leads", "domains", "calls", "visitors", "traffic"])
            version["allowances"][metric] = int(
                version["allowances"][metric] * rng.choice([2, 3]) // rng.choice([1, 4])
            )
        elif change == "tariff":
            version["overage"]["traffic"] = {"model": "block", "size": rng.choice([1, 3]), "price": "2"}
        elif change == "version":
            later = copy.deepcopy(version)
            later["effective_from"] = date(2024, rng.randint(2, 12), rng.randint(1, 28)).isoformat()
            later["price"]["monthly"] = _times(later["price"]["monthly"], 2)
            if later["effective_from"] not in {str(each["effective_from"]) for each in package["versions"]}:
                package["versions"].append(later)
        elif change == "add_on" and found.get("add_ons"):
            own = rng.choice(rng.choice(found["add_ons"])["versions"])
            own["price"]["monthly"] = _times(own["price"]["monthly"], 2)
        elif change == "coupon" and found.get("coupons"):
            coupon: dict[str, Any] = rng.choice(found["coupons"])
            if "percent" in coupon:
                coupon["percent"] = str(rng.choice([5, 50, 100]))
        elif change == "yearly" and "yearly" in version["price"]:
            version["price"]["yearly"] = _times(version["price"]["yearly"], 2)
    return found


def _times(amount: object, factor: int) -> str:
    return str(Decimal(str(amount)) * factor)
