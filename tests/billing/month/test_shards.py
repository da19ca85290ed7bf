"""A month of shards: the same documents, numbers, register and rows as a month in one piece."""

import gc
import itertools
import shutil
import weakref
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from billing.inputs.reading import Inputs
from billing.model.buckets import bucket_of, bucket_ranges
from billing.model.columns import Table
from billing.model.errors import InterruptedRunError, RefusedError
from billing.model.tables import (
    CHARGES,
    CYCLES,
    DECISIONS,
    DOCUMENTS,
    DRAFTS,
    DUES,
    LEVELS,
    LINES,
    PACKAGES,
    UNBILLED,
    USAGE,
)
from billing.month.all_steps import STEPS_BEFORE_DOCUMENTS, STEPS_OF_A_MONTH
from billing.month.business import Business
from billing.month.corrections import issue_corrections
from billing.month.issuing import complete_issue, issue_documents
from billing.month.plan import (
    Plan,
    bill_shard,
    plan_month,
    planned_shard,
    remove_plan,
    unbilled_shards,
    write_plan,
)
from billing.month.recorded_inputs.months import moved_inputs, record_month
from billing.month.shards import TABLES, begin_month, each_shard, is_sharded, shard_ranges
from billing.month.steps import billed_months, ingest_usage
from billing.month.versions import versions
from billing.reports.preview import preview_month
from billing.reports.repair import damage_in_words, repair
from billing.reports.show import read_table
from billing.reports.verify import disagreements
from billing.sample import billing_hint, write_sample, write_sample_payments
from billing.store.monthly import read_month
from tests import sizes
from tests.billing.month.test_moving_in import catalogue
from tests.by_steps import bill_by_steps
from tests.landing import Landing
from tests.several_currencies import four_customers
from tests.sizes import sized
from tests.sold_business import sold_landing

MONTHS = sized(2, 5)
ACCOUNTS = sized(24, 100)
# `tests/pipeline/test_sharded_homes.py` bills 4 and 7 shards by commands
COUNTS = sized([[2, 3]], [[4] * 5, [7] * 5, [4, 7, 1, 7, 1024]])


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A business of some months: whatever is sold, trials, upgrades, refunds, taxes, late usage."""
    home = tmp_path_factory.mktemp("sample") / "home"
    if sizes.LONG:
        write_sample(home, accounts=ACCOUNTS, months=MONTHS, events_per_account_day=Decimal("0.5"))
        return home
    landing = sold_landing(home)
    landing.customer("trial", trial_days=14)
    landing.customer("grown")
    landing.use("grown", leads=2_600)
    landing.customer("refunded")
    landing.request("refunded", "refund", "2026-01-20T09:00:00Z", reason="unused")
    landing.customer("late", on="2025-12-05", billed_through="2026-01-05")
    landing.use("late", "2025-12-20", emails=20_000, delivered="2026-02-03")
    landing.customer("february", on="2026-02-05")
    return home


def bill(january: Business, *further: int) -> Business:
    """Bill each further month of a sample with a number of shards, with payments after each."""
    business = january
    for number, count in enumerate(further, start=2):
        write_sample_payments(business.home.root, business.register.documents())
        month, as_of = billing_hint(number)
        business = bill_by_steps(business.home.root, month, str(as_of), shards=count)
    return business


def copied(sample: Path, target: Path) -> Path:
    shutil.copytree(sample, target)
    return target


class Januaries:
    """The first month of the sample, billed once with each number of shards, and all its months."""

    def __init__(self, sample: Path, folder: Path) -> None:
        self.sample, self.folder, self.billed = sample, folder, dict[int, Business]()
        self.lives = dict[tuple[int, ...], Business]()

    def of(self, count: int) -> Business:
        """Do not issue in it."""
        if count not in self.billed:
            month, as_of = billing_hint(1)
            home = copied(self.sample, self.folder / str(count))
            self.billed[count] = bill_by_steps(home, month, str(as_of), shards=count)
        return self.billed[count]

    def copied(self, count: int, target: Path) -> Business:
        found = self.of(count)
        return Business.load(copied(found.home.root, target), found.as_of, shards=count)

    def lived(self, *counts: int) -> Business:
        """The months of the sample, each billed with a number of shards. Do not issue in it."""
        if counts not in self.lives:
            january = self.copied(counts[0], self.folder / "-".join(map(str, ("lived", *counts))))
            self.lives[counts] = bill(january, *counts[1:])
        return self.lives[counts]


@pytest.fixture(scope="module")
def januaries(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Januaries:
    return Januaries(sample, tmp_path_factory.mktemp("januaries"))


@pytest.fixture(scope="module")
def whole(januaries: Januaries) -> Business:
    """The sample billed in one piece."""
    return januaries.lived(*[1] * MONTHS)


def tables(business: Business) -> dict[tuple[str, str], pl.DataFrame]:
    home = business.home
    months = ((table, month) for table in TABLES for month in home.months(table))
    return {(table.name, month): read_month(home, table, month) for table, month in months}


def registered(business: Business) -> list[pl.DataFrame]:
    register = business.register
    numbers = register.documents()["number"].to_list()
    contents = pl.DataFrame(list(register.contents(numbers)), schema=["number", "content"], orient="row")
    return [
        register.documents(),
        register.lines(),
        register.taxes(),
        register.closed_dates(),
        register.begun_subscriptions(),
        register.dates_gone_by(),
        contents,
    ]


def assert_the_same(one: Business, other: Business) -> None:
    first, second = tables(one), tables(other)
    assert first.keys() == second.keys()
    assert [key for key in first if not first[key].equals(second[key])] == []
    assert [frame.equals(again) for frame, again in zip(registered(one), registered(other), strict=True)] == [True] * 7


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_shards_of_any_number_bill_the_same(counts: list[int], januaries: Januaries, whole: Business) -> None:
    business = januaries.lived(*counts)
    assert_the_same(business, whole)
    for number, count in enumerate(counts, start=1):
        month, _ = billing_hint(number)
        # The number of shards of a month stays.
        assert shard_ranges(business, month) == bucket_ranges(count)
        assert len(business.home.parts(CYCLES, month)) == count
        assert moved_inputs(business, month) == []
    # No PDF was drawn here.
    assert [told for told in disagreements(business) if "PDF" not in told] == []


def test_shards_bill_whatever_is_sold_the_same(januaries: Januaries, tmp_path: Path) -> None:
    """Coupons, add-ons, seats, minimum spends, charges and prepaid credits."""
    if sizes.LONG:
        landing = sold_landing(tmp_path / "whole")
        twin = landing.copied(tmp_path / "shards")
        whole, shards = (
            bill_by_steps(home.root, "2026-02", "2026-02-28", shards=count) for home, count in ((landing, 1), (twin, 2))
        )
    else:
        whole, shards = januaries.lived(*[1] * MONTHS), januaries.lived(*COUNTS[0])
    assert_the_same(shards, whole)
    uses = whole.register.credit_uses()
    assert uses.height and uses.equals(shards.register.credit_uses())
    for name in ("decisions", "add_ons"):
        found = read_table(whole, name=name)
        assert found.height and found.equals(read_table(shards, name=name))
    sold = {"add_on", "charge", "coupon", "minimum_spend", "overage", "package_fee", "proration", "seats"}
    assert sold <= set(whole.register.lines()["kind"])


def test_a_shard_whose_first_customer_comes_later_takes_the_first_month_of_the_business(whole: Business) -> None:
    months = {shard.first_month for shard in each_shard(whole.at(whole.as_of, shards=7), "2030-01")}
    assert months == {whole.first_month}
    # Such a shard is among them.
    first = pl.col("on").min().dt.strftime("%Y-%m")
    starts = {shard.requests.select(first).item() for shard in each_shard(whole.at(whole.as_of, shards=40), "2030-01")}
    assert len(starts - {whole.first_month, None}) >= 1


def bill_by_workers(home: Path, month: str, as_of: str, *, shards: int) -> Business:
    """As `bill_by_steps`, with months of several shards billed from their plan as workers do: in any order, twice."""
    business = Business.load(home, date.fromisoformat(as_of), shards=shards)
    ingest_usage(business)
    for each in billed_months(business, month):
        if not moved_inputs(business, each):
            continue
        plan = Plan.from_json(plan_month(business, each).to_json())
        assert is_sharded(business, each) == (len(plan.shards) > 1)
        write_plan(business.home, plan)
        assert unbilled_shards(business.home, plan) == list(plan.shards)
        for shard in (*reversed(plan.shards), plan.shards[0]):
            bill_shard(home, plan, shard)
            assert shard not in unbilled_shards(business.home, plan)
        assert unbilled_shards(business.home, plan) == []
        issue_documents(business, each)
        record_month(business, each)
        remove_plan(business.home, each)
    return business


def test_workers_bill_the_shards_of_a_plan(sample: Path, januaries: Januaries, tmp_path: Path) -> None:
    home, months = copied(sample, tmp_path / "home"), sized(1, MONTHS)
    for number in range(1, months + 1):
        month, as_of = billing_hint(number)
        business = bill_by_workers(home, month, str(as_of), shards=2)
        if number < months:
            write_sample_payments(home, business.register.documents())
    assert_the_same(business, januaries.lived(*[1] * months))
    assert not list(business.home.lake.glob("plans/**/*.parquet"))


def test_a_worker_reads_every_table_of_inputs_that_the_head_reads(sample: Path, tmp_path: Path) -> None:
    home = copied(sample, tmp_path / "home")
    (home / "landing" / "exchange_rates.csv").write_text("on,currency,to,rate\n2026-01-01,USD,EUR,0.9\n")
    month, as_of = billing_hint(1)
    business = Business.load(home, as_of, shards=2)
    ingest_usage(business)
    plan = plan_month(business, month)
    for shard in each_shard(business, month):
        theirs = planned_shard(home, plan, shard.new_shards[0].name).inputs
        for each in fields(Inputs):
            here, there = getattr(shard.inputs, each.name), getattr(theirs, each.name)
            if isinstance(here, pl.DataFrame | pl.Series):
                assert there.equals(here), each.name
                assert there.dtype == here.dtype if isinstance(here, pl.Series) else there.schema == here.schema


def test_a_worker_of_another_version_or_with_another_catalogue_bills_no_shard(sample: Path, tmp_path: Path) -> None:
    home = copied(sample, tmp_path / "home")
    month, as_of = billing_hint(1)
    business = Business.load(home, as_of, shards=2)
    ingest_usage(business)
    plan = plan_month(business, month)
    other = "Overage 0.0.1, Polars 0.0.1"
    with pytest.raises(RefusedError, match=f"found {versions()}, expected {other}"):
        bill_shard(home, replace(plan, versions=other), plan.shards[0])
    with (business.home.landing / "catalogue.yaml").open("a") as file:
        file.write("# changed\n")
    with pytest.raises(InterruptedRunError, match=r"catalogue\.yaml has changed since the run was planned: run again"):
        bill_shard(home, plan, plan.shards[0])
    assert business.home.months(CYCLES) == []


def test_a_run_that_was_killed_between_two_shards_is_completed(
    sample: Path, januaries: Januaries, tmp_path: Path
) -> None:
    home = copied(sample, tmp_path / "home")
    month, as_of = billing_hint(1)
    business = Business.load(home, as_of, shards=2)
    ingest_usage(business)
    begin_month(business, month)
    for number, shard in enumerate(each_shard(business, month)):
        if number == 1:
            break
        for step in STEPS_BEFORE_DOCUMENTS.values():
            step(shard, month)
    # Files of other shards, such as a killed run of an earlier state left: they go.
    stray = business.home.partition(CYCLES, month)
    stray.write_bytes(b"no Parquet")
    done = bill_by_steps(home, month, str(as_of), shards=4)
    assert len(shard_ranges(done, month)) == 2
    assert not stray.exists()
    assert_the_same(done, januaries.of(1))


@pytest.mark.parametrize("what", ["drafts", "a preview"])
def test_shards_that_issue_nothing_make_no_register(what: str, tmp_path: Path) -> None:
    landing = Landing(tmp_path / "home")
    for half in (0, 1):
        landing.customer(_name("one", half))
    month, as_of = "2026-01", date(2026, 1, 31)
    if what == "drafts":
        business = bill_by_steps(landing.root, month, str(as_of), issues=False, shards=2)
        assert not read_month(business.home, DRAFTS, month).is_empty()
    else:
        business = Business.load(landing.root, as_of, shards=2)
        assert not preview_month(business, month).changes.is_empty()
    assert not business.home.register_path.exists()


def test_a_preview_of_shards_says_what_one_of_the_whole_says(
    two_halves: Business, januaries: Januaries, tmp_path: Path
) -> None:
    billed, number = (januaries.lived(*[1] * MONTHS), MONTHS + 1) if sizes.LONG else (two_halves, 2)
    home = copied(billed.home.root, tmp_path / "home")
    month, as_of = billing_hint(number)
    found = [preview_month(Business.load(home, as_of, issues=False, shards=count), month) for count in (1, 2)]
    assert found[0].changes.equals(found[1].changes)
    assert not found[0].changes.is_empty()


def test_a_correction_of_a_month_of_shards_writes_their_parts(januaries: Januaries, tmp_path: Path) -> None:
    month, _ = billing_hint(1)
    corrected = []
    for count in (1, 2):
        business = januaries.copied(count, tmp_path / str(count))
        issue_corrections(business, month, "usage was late")
        # An issue that was killed is completed without beginning the month again.
        complete_issue(business, month)
        corrected.append(business)
    assert [len(business.home.parts(DOCUMENTS, month)) for business in corrected] == [1, 2]
    assert_the_same(*corrected)


def _name(wanted: str, half: int) -> str:
    """A name like the wanted one of an account in a half of the buckets."""
    names = (f"{wanted}-{number}" for number in itertools.count())
    return next(name for name in names if bucket_ranges(2)[half].holds(pl.Series([bucket_of(name)])).all())


HOW = [bill_by_steps, bill_by_workers]
LEFT = ["of another account", "of nobody", "missing"]
HALVES = ((0, "one"), (1, "other"))


class Changed:
    """A business that changes between two runs, in one piece and in shards.

    A customer moves in, before whom nobody was billed, and requests of others become some of another account, of
    nobody, or are missing.
    """

    def __init__(self, root: Path, bill_shards: Callable[..., Business]) -> None:
        landing = Landing(root / "whole", catalogue=catalogue())
        new, self.moved, second = _name("new", 0), _name("moved", 1), _name("new", 1)
        for name in (new, second):
            landing.customer(name, on="2026-02-05")
            landing.use(name, "2026-01-20", emails=100)
        self.one, self.other = (
            {left: _name(f"{which}-{left.split()[-1]}", half) for left in LEFT} for half, which in HALVES
        )
        for left in LEFT:
            landing.customer(self.one[left], on="2026-02-05")
            landing.account(self.other[left])
        twin = landing.copied(root / "sharded")
        self.whole = self._billed(landing, bill_by_steps, 1)
        self.sharded = self._billed(twin, bill_shards, 2)

    def _billed(self, landing: Landing, how: Callable[..., Business], shards: int) -> Business:
        # Once with customers who are all new.
        how(landing.root, "2026-02", "2026-02-08", shards=shards)
        landing.customer(self.moved, on="2023-05-10", billed_through="2026-02-10")
        file = landing.folder / "requests.jsonl"
        text = file.read_text().replace(self.one["of another account"], self.other["of another account"])
        text = text.replace(self.one["of nobody"], "")
        file.write_text("".join(line for line in text.splitlines(keepends=True) if self.one["missing"] not in line))
        return how(landing.root, "2026-02", "2026-02-09", shards=shards)


@pytest.fixture(scope="module", params=sized(HOW[1:], HOW))
def changed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Changed:
    return Changed(tmp_path_factory.mktemp("changed"), request.param)


def test_usage_before_the_first_month_is_listed_in_all_shards_where_a_customer_of_one_moved_in(
    changed: Changed, tmp_path: Path
) -> None:
    assert_the_same(changed.sharded, changed.whole)
    assert changed.whole.first_month == "2026-02"
    assert read_month(changed.sharded.home, UNBILLED, "2026-01").height == 2
    if sizes.LONG:
        # Its parts are of the shards of the first month, also where these are chosen again.
        home = copied(changed.sharded.home.root, tmp_path / "home")
        shutil.rmtree(home / "lake" / "fingerprints")
        assert_the_same(bill_by_workers(home, "2026-02", "2026-02-09", shards=3), changed.whole)


def test_a_request_that_leaves_its_account_is_looked_for_in_all_shards(changed: Changed) -> None:
    assert_the_same(changed.sharded, changed.whole)
    assert changed.sharded.parked.equals(changed.whole.parked)
    assert set(changed.whole.parked["account_id"]) == {changed.one["of nobody"], changed.one["missing"]}


def test_a_month_of_one_shard_with_suspensions_has_not_moved_when_new_months_have_several(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    names = [_name("b", 0), _name("a", 1)]
    for name in names:
        landing.customer(name)
    business = bill_by_steps(tmp_path, "2026-01", "2026-01-31", shards=1)
    documents = business.register.documents()
    for number, name, total in documents.select("number", "account_id", "total").iter_rows():
        landing.pay(name, number, str(total), "2026-01-20T10:00:00Z", "failed")
    business = bill_by_steps(tmp_path, "2026-01", "2026-01-31", shards=1)
    again = Business.load(tmp_path, business.as_of, shards=2)
    assert business.suspensions.height == 2
    assert again.suspensions.equals(business.suspensions)
    assert moved_inputs(again, "2026-01") == []


@pytest.fixture(scope="module")
def two_halves(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """A customer in each of two shards."""
    landing = Landing(tmp_path_factory.mktemp("halves") / "home")
    for half in (0, 1):
        landing.customer(_name("one", half))
        landing.use(_name("one", half), emails=16_000)
    return bill_by_steps(landing.root, "2026-01", "2026-01-31", shards=2)


@pytest.mark.parametrize("shards", sized([3], [2, 3, 1]))
@pytest.mark.parametrize(
    "table",
    sized([CHARGES, DOCUMENTS], [CYCLES, LEVELS, USAGE, PACKAGES, DECISIONS, CHARGES, DUES, DRAFTS, DOCUMENTS, LINES]),
    ids=lambda table: str(table.name),
)
def test_a_damaged_part_is_made_again_with_as_many_shards_or_others(
    table: Table, shards: int, two_halves: Business, tmp_path: Path
) -> None:
    found, issued = tables(two_halves), registered(two_halves)
    before = Business.load(copied(two_halves.home.root, tmp_path / "home"), two_halves.as_of, shards=2)
    part = before.home.parts(table, "2026-01")[1]
    part.write_bytes(part.read_bytes()[:-9])
    assert str(part) in damage_in_words(before.home)
    removed, left = repair(before.home)
    assert ([damage.path for damage in removed], left) == ([part], [])
    after = bill_by_steps(before.home.root, "2026-01", "2026-01-31", shards=shards)
    assert len(after.home.parts(table, "2026-01")) == 2
    assert [key for key, rows in tables(after).items() if not rows.equals(found[key])] == []
    assert [rows.equals(again) for rows, again in zip(issued, registered(after), strict=True)] == [True] * 7


@pytest.mark.parametrize("make", [sold_landing, four_customers])
def test_a_shard_is_freed_when_the_next_one_begins(make: Callable[[Path], object], tmp_path: Path) -> None:
    """What holds itself is freed by the garbage collector alone: memory would grow with every shard."""
    make(tmp_path)
    business = Business.load(tmp_path, date(2026, 1, 31), shards=2)
    ingest_usage(business)
    begin_month(business, "2026-01")
    gc.collect()
    gc.disable()
    try:
        shards = []
        for shard in each_shard(business, "2026-01"):
            shards.append(weakref.ref(shard))
            for write in STEPS_OF_A_MONTH.values():
                write(shard, "2026-01")
        del shard
        assert [found() for found in shards] == [None, None]
    finally:
        gc.enable()
