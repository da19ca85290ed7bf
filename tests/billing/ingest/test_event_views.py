"""Events of large files as views over parsed rows: the same events as copies, whatever happens afterwards."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from billing.ingest import event_views, events_digest, scan_event_parts, scan_events
from billing.ingest.event_views import is_view
from billing.ingest.events import (
    accounts_of_events,
    event_files,
    scan_account_events,
    scan_delivered_events,
    scan_event_files,
)
from billing.model.buckets import bucket_of, bucket_ranges
from billing.model.errors import InterruptedRunError
from billing.store.working_files import of_shard
from tests.billing.ingest.small_business import METRICS, Business, line, metric, split_all

MONTHS = ["2025-12", "2026-01", "2026-02"]
Changes = Callable[[Business], None]


@pytest.fixture
def viewed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make views of files of any size."""
    monkeypatch.setattr(event_views, "SMALL", -1)
    monkeypatch.setattr(event_views, "_LARGE", 1)
    yield


@pytest.fixture
def pair(new_business: Callable[[str], Business], viewed: None) -> tuple[Business, Business]:
    """Two businesses with the same deliveries, the second without views once `compared` ingests it."""
    return new_business("views"), new_business("copies")


def delivered(business: Business) -> None:
    """Rows of all outcomes and types, on several days, as JSON lines and as CSV."""
    many = [line(f"e{n}", subject=("acme", "globex")[n % 2], data={"count": n % 7}) for n in range(40)]
    own = [
        line("b", type="bandwidth.served", data={"bytes": "12.5000000001"}),
        line("g", type="leads.changed", data={"delta": -3}),
        line("l", type="login", data=None),
        line("v", type="page.viewed", data={"visitor": "anna"}),
        line("e1", data={"count": 1}, subject="globex"),
        line("e2", data={"count": 99}),
        line("x", subject="nobody"),
        line("y", type="unheard"),
        line("z", data={"count": -1}),
        line("f", time="2026-05-01T00:00:00Z"),
        line("d", time="2025-12-31T23:59:59Z"),
        "{",
    ]
    business.deliver([*many[:20], *own, *many[20:]])
    business.deliver([*many[:3], *(line(f"s{n}", time="2026-01-03T01:00:00Z") for n in range(20))], "2026-01-03")
    rows = "".join(f"c{n},/csv,email.sent,acme,2026-01-03T02:00:00Z,{n}\n" for n in range(20))
    business.deliver("id,source,type,subject,time,value\n" + rows, "2026-01-03", "b.csv")


def compared(pair: tuple[Business, Business], *changes: Changes) -> Business:
    """Ingest both after each change, and compare all that is read of them; returns the one with views."""
    views, copies = pair
    for change in changes:
        outcomes = []
        for business, large in ((views, 1), (copies, 10**9)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(event_views, "_LARGE", large)
                change(business)
                outcomes.append(business.ingest())
        assert outcomes[0] == outcomes[1]
        assert_frame_equal(views.events(), copies.events())
        for table in ("rejects", "ingest"):
            assert_frame_equal(views.table(table), copies.table(table))
        assert (views.home.lake / "repeats").exists() == (copies.home.lake / "repeats").exists()
    assert any(map(is_view, event_files(views.home, MONTHS)))
    assert not any(map(is_view, event_files(copies.home, MONTHS)))
    return views


def test_the_events_behind_views_are_those_of_copies(pair: tuple[Business, Business]) -> None:
    found = compared(pair, delivered)
    names = [path.name for path in event_files(found.home, MONTHS)]
    # What is left out of a view of a month is copied: an event of another month.
    assert names == ["2026-01-02.parquet", "2026-01-02.view.parquet", "2026-01-03.view.parquet"]
    assert found.ingest().days_changed == ()


def test_what_is_known_later_makes_rows_valid_as_in_copies(pair: tuple[Business, Business]) -> None:
    def known(business: Business) -> None:
        business.accounts.add("nobody")

    def also_measured(business: Business) -> None:
        more = metric("opened", "unheard", None, measure="count")
        business.metrics = (*METRICS, more, metric("sends", "email.sent", None, measure="count"))

    found = compared(pair, delivered, known, also_measured)
    assert {"opened", "sends"} <= set(found.events()["metric"])


def test_a_metric_by_dimensions_reads_them_of_the_parsed_rows(pair: tuple[Business, Business]) -> None:
    def by_region(business: Business) -> None:
        by = (("region", ("data", "region")),)
        business.metrics = tuple(replace(each, by=by) if each.name == "emails" else each for each in METRICS)
        lines = [line(f"r{n}", data={"count": 1, "region": "eu" if n % 3 else "us"}) for n in range(20)]
        business.deliver([*lines, line("r", data={"count": 1})], "2026-01-04")

    found = compared(pair, delivered, by_region).events()
    assert set(found["dimensions"].list.first().drop_nulls()) == {"eu", "us"}


def test_a_file_that_changes_or_vanishes_is_followed(pair: tuple[Business, Business]) -> None:
    def replaced(business: Business) -> None:
        business.deliver([line(f"n{n}") for n in range(30)], "2026-01-03")

    def vanished(business: Business) -> None:
        business.home.landing.joinpath("usage", "2026-01-02", "a.jsonl").unlink()

    def delivered_again(business: Business) -> None:
        business.deliver([line(f"e{n}", data={"count": n % 7}) for n in range(0, 40, 2)], "2026-01-05")

    found = compared(pair, delivered, replaced, vanished, delivered_again)
    assert len(list(found.home.lake.glob("parsed_files/delivery_day=2026-01-03/*.parquet"))) == 2


def test_shards_and_accounts_read_their_own(pair: tuple[Business, Business]) -> None:
    home = compared(pair, delivered).home
    known = scan_events(home, MONTHS).collect()
    of_shards = [scan_events(replace(home, buckets=own), MONTHS).collect() for own in bucket_ranges(4)]
    assert_frame_equal(pl.concat(of_shards), known, check_row_order=False)
    for account in ("acme", "globex"):
        assert bucket_of(account) is not None
        own = scan_account_events(home, MONTHS, account).collect()
        assert_frame_equal(own, known.filter(pl.col("account_id") == account), check_row_order=False)
    parts = pl.concat(part.collect() for part in scan_event_parts(home, MONTHS))
    assert_frame_equal(parts, known, check_row_order=False)
    of_file = scan_delivered_events(home, date(2026, 1, 3), "b.csv").collect()
    assert_frame_equal(of_file, known.filter(pl.col("file") == "b.csv"), check_row_order=False)


def test_rows_are_numbered_in_each_scan(pair: tuple[Business, Business], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_views, "_SCANNED_TOGETHER", 30)
    compared(pair, delivered)


def test_only_the_metrics_that_are_asked_for_are_read_of_views(pair: tuple[Business, Business]) -> None:
    def also_counted(business: Business) -> None:
        business.metrics = (*METRICS, metric("sends", "email.sent", None, measure="count"))

    home = compared(pair, also_counted, delivered).home
    known = scan_events(home, MONTHS).collect()
    assert set(known["metric"]) == {"emails", "sends", *(each.name for each in METRICS)}
    for names in (["leads"], ["sends"], ["emails", "leads"], ["emails", "sends"], []):
        found = scan_events(home, MONTHS, metrics=names).collect()
        own = pl.col("metric").is_in(names)
        assert_frame_equal(found.filter(own), known.filter(own), check_row_order=False)
        viewed = [path for path in event_files(home, MONTHS) if is_view(path)]
        assert set(scan_event_files(home, viewed, names).collect()["metric"]) <= set(names)


def test_a_filter_looks_at_no_row_that_is_left_out(pair: tuple[Business, Business]) -> None:
    home = compared(pair, delivered).home
    large = scan_events(home, MONTHS).filter((pl.col("value") > 5) & (pl.col("metric") == "emails"))
    assert large.collect()["value"].min() == 6
    (home.lake / "ingest_state.json").unlink()
    assert set(accounts_of_events(home)) == {"acme", "globex"}


def test_a_view_reads_the_parsed_file_that_it_was_made_of_and_no_other(business: Business, viewed: None) -> None:
    delivered(business)
    business.ingest()
    before, digest = business.events(), events_digest(business.home, MONTHS)
    for path in business.home.lake.glob("parsed_files/delivery_day=2026-01-03/*.parquet"):
        shutil.copy(path, path.with_suffix(".copy"))
        path.unlink()
    with pytest.raises(InterruptedRunError, match=r"expected the one that events refer to"):
        business.events()
    business.ingest()
    assert_frame_equal(business.events(), before)
    assert events_digest(business.home, MONTHS) == digest


def test_a_day_that_is_split_by_account_is_copied(
    business: Business, viewed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_all(monkeypatch)
    delivered(business)
    business.ingest()
    assert not any(map(is_view, event_files(business.home, MONTHS)))


def test_small_files_and_those_of_several_months_are_copied(
    business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered(business)
    business.ingest()
    assert not any(map(is_view, event_files(business.home, MONTHS)))
    monkeypatch.setattr(event_views, "SMALL", -1)
    monkeypatch.setattr(event_views, "_LARGE", 1)
    halves = [line(f"h{n}", time=f"202{5 + n % 2}-{(12, 1)[n % 2]:02}-15T00:00:00Z") for n in range(40)]
    business.deliver(halves, "2026-01-16")
    business.ingest()
    names = [path.name for path in event_files(business.home, MONTHS)]
    assert names.count("2026-01-16.parquet") == 2
    # Days that stand are not written again.
    assert not any(".view." in name for name in names)


def test_the_view_says_what_is_left_out(business: Business, viewed: None) -> None:
    business.deliver([line("1"), line("2"), line("3"), line("4"), line("x", subject="nobody")])
    business.ingest()
    (path,) = event_files(business.home, MONTHS)
    view = pl.read_parquet(path).row(0, named=True)
    assert (view["file"], view["rows"], view["left_out"]) == ("a.jsonl", 4, [4])
    assert [each["metric"] for turn in json.loads(view["measured"]) for each in turn["metrics"]]


def test_a_worker_brings_the_parsed_rows_of_days_with_views() -> None:
    view = "lake/events/event_month=2026-01/2026-01-02.view.parquet"
    parsed = "lake/parsed_files/delivery_day={}/a.parquet"
    others = [parsed.format("2026-01-03"), parsed.format("2026-01-02").replace("parquet", "hashes")]
    paths = [view, "lake/events/event_month=2026-01/2026-01-03.parquet", parsed.format("2026-01-02"), *others]
    needs = of_shard(["2026-01"], 0, 3).with_parsed_rows(paths)
    assert [path for path in paths if path in needs] == paths[:3]
    of_another_month = of_shard(["2026-02"], 0, 3).with_parsed_rows(paths)
    assert [path for path in paths if path in of_another_month] == []


def test_a_home_that_moves_keeps_its_views(business: Business, viewed: None, tmp_path: Path) -> None:
    delivered(business)
    business.ingest()
    moved = replace(business, home=replace(business.home, root=tmp_path / "elsewhere"))
    shutil.copytree(business.home.lake, moved.home.lake)
    before = business.events()
    shutil.rmtree(business.home.lake)
    assert_frame_equal(moved.events(), before)
