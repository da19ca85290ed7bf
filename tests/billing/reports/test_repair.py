"""Damaged files of the lake are named, and taken away where they can be made again."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from billing.ingest import pending_days
from billing.reports.repair import damage_in_words, damaged_files, repair
from billing.store.home import Home
from tests.billing.ingest.small_business import Business, line, split_all


@pytest.fixture
def business(tmp_path: Path) -> Business:
    business = Business(Home(tmp_path))
    business.deliver([line("1"), line("2", subject="nobody")])
    business.deliver([line("3")], day="2026-01-03")
    business.ingest()
    return business


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def overwrite(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4:-100] = b"x" * (len(content) - 104)
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [cut, overwrite, empty])
@pytest.mark.parametrize(
    "pattern", ["events/*/*.parquet", "rejects/*/*.parquet", "ingest/*/*.parquet", "parsed_files/*/*.parquet"]
)
def test_what_the_deliveries_give_again_is_taken_away_and_ingested_again(
    business: Business, harm: Callable[[Path], None], pattern: str
) -> None:
    lake, before = business.home.lake, business.lake()
    path = min(lake.glob(pattern))
    harm(path)
    assert [damage.path for damage in damaged_files(business.home)] == [path]
    said = damage_in_words(business.home)
    assert str(path) in said and "overage repair" in said
    removed, left = repair(business.home)
    assert ([damage.path for damage in removed], left, path.exists()) == ([path], [], False)
    assert pending_days(business.home, business.rules(), through=date(2026, 1, 31)), "the next run ingests"
    business.ingest()
    assert (business.lake(), damaged_files(business.home)) == (before, [])


def test_a_part_of_a_days_events_is_made_again(business: Business, monkeypatch: pytest.MonkeyPatch) -> None:
    split_all(monkeypatch)
    business.accounts |= {f"account-{number}" for number in range(20)}
    business.deliver([line(account, subject=account) for account in business.accounts], day="2026-01-04")
    business.ingest()
    before, path = business.lake(), max(business.home.lake.glob("events/*/2026-01-04.*-*.parquet"))
    cut(path)
    removed, _ = repair(business.home)
    assert [damage.path for damage in removed] == [path]
    business.ingest()
    assert business.lake() == before


def test_parsed_rows_of_an_archived_delivery_are_named_and_left_alone(business: Business) -> None:
    (business.home.landing / "usage" / "2026-01-03" / "a.jsonl").unlink()
    (path,) = business.home.lake.glob("parsed_files/delivery_day=2026-01-03/*.parquet")
    cut(path)
    removed, left = repair(business.home)
    assert (removed, [damage.path for damage in left], path.exists()) == ([], [path], True)


@pytest.mark.parametrize("is_archived", [False, True])
def test_what_small_files_share_is_made_again_unless_one_of_them_is_archived(
    business: Business, is_archived: bool
) -> None:
    names = [f"{each}.json" for each in range(20)]
    paths = [business.deliver(line(name), day="2026-01-04", name=name) for name in names]
    business.ingest()
    before = business.lake()
    (shared,) = business.home.lake.glob("parsed_files/delivery_day=2026-01-04/*.parquet")
    if is_archived:
        paths[3].unlink()
    cut(shared)
    removed, left = repair(business.home)
    assert (len(removed), len(left), shared.exists()) == ((0, 1, True) if is_archived else (1, 0, False))
    if not is_archived:
        business.ingest()
        assert business.lake() == before


def test_a_whole_lake_has_nothing_to_repair(business: Business) -> None:
    before = {path: path.stat().st_mtime_ns for path in business.home.lake.rglob("*")}
    assert (damage_in_words(business.home), repair(business.home)) == ("", ([], []))
    assert {path: path.stat().st_mtime_ns for path in business.home.lake.rglob("*")} == before
