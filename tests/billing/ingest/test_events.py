"""Readers of counted events: the shards of a home have every event once, whatever their number."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.ingest import (
    accounts_of_events,
    event_files,
    event_hashes,
    repeated_events,
    scan_account_events,
    scan_event_files,
    scan_event_parts,
    scan_events,
)
from billing.ingest.events import scan_delivered_events
from billing.ingest.state import state_path
from billing.model.buckets import BUCKETS, bucket_of, bucket_ranges
from billing.store.home import Home
from tests.billing.ingest.small_business import Business, line, split_all
from tests.sizes import sized

MONTHS: Final = ["2025-12", "2026-01", "2026-02"]
ACCOUNTS: Final = [f"account-{number}" for number in range(40)]
DAYS: Final = ["2026-01-02", "2026-01-03", "2026-02-01"]

deliveries = st.lists(
    st.tuples(
        st.sampled_from(DAYS),
        st.sampled_from(["a.jsonl", "b.jsonl"]),
        st.lists(
            st.builds(
                # few ids: some come again, with the same content or another
                lambda id, account, hour, count: line(
                    str(id),
                    subject=account,
                    time=f"2026-01-0{1 + hour // 24}T{hour % 24:02}:00:00Z",
                    data={"count": count},
                ),
                st.integers(0, 30),
                st.sampled_from(ACCOUNTS),
                st.integers(0, 47),
                st.integers(1, 2),
            ),
            max_size=30,
        ),
    ),
    max_size=6,
)


def read(home: Home) -> dict[str, list[tuple[object, ...]]]:
    """All that a month is measured from."""
    frames = {
        "events": scan_events(home, MONTHS),
        "as of": scan_events(home, MONTHS, date(2026, 1, 2)),
        "parts": pl.concat(scan_event_parts(home, MONTHS)),
        "files": scan_event_files(home, event_files(home, MONTHS)),
        "repeated": repeated_events(home, MONTHS),
        "delivered": scan_delivered_events(home, date(2026, 1, 3), "a.jsonl"),
        "accounts": accounts_of_events(home).to_frame().lazy(),
    }
    return {name: sorted(frame.collect().rows(), key=repr) for name, frame in frames.items()}


def require_whole(home: Home, shards: int) -> None:
    """The shards of a home together have what it has, each of its own accounts only."""
    whole = read(home)
    parts = []
    for buckets in bucket_ranges(shards):
        shard = replace(home, buckets=buckets)
        part = read(shard)
        accounts = {str(row[0]) for rows in part.values() for row in rows}
        assert all(buckets.first <= bucket_of(account) <= buckets.last for account in accounts)
        assert list(event_hashes(shard, MONTHS)) == [
            str(path.relative_to(home.lake)) for path in event_files(shard, MONTHS)
        ]
        assert event_hashes(shard, MONTHS).items() <= event_hashes(home, MONTHS).items()
        parts.append(part)
    for name, rows in whole.items():
        assert sorted((row for part in parts for row in part[name]), key=repr) == rows, name


@given(
    deliveries,
    st.sampled_from(sized([1, 3, 7, 32], [1, 2, 3, 7, 32, 50, BUCKETS])),
    st.tuples(st.booleans(), st.booleans()),
)
@settings(deadline=None, max_examples=sized(usual=5, long=8), suppress_health_check=[HealthCheck.too_slow])
def test_the_shards_together_are_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    delivered: list[tuple[str, str, list[str]]],
    shards: int,
    split: tuple[bool, bool],
) -> None:
    business = Business(Home(tmp_path_factory.mktemp("home")), accounts=set(ACCOUNTS[:30]))
    with pytest.MonkeyPatch.context() as patch:
        if split[0]:
            split_all(patch)
        for place, (day, name, lines) in enumerate(delivered):
            business.deliver(lines, day, name)
            if place == 1:
                business.ingest()  # what follows comes late, or in place of what came
        business.ingest()
    require_whole(business.home, shards)
    with pytest.MonkeyPatch.context() as patch:
        if split[1]:
            split_all(patch)
        business.accounts = set(ACCOUNTS)  # some become known later
        business.ingest()
        require_whole(business.home, shards)


def test_a_shard_reads_its_own_parts(business: Business, monkeypatch: pytest.MonkeyPatch) -> None:
    split_all(monkeypatch)
    business.accounts = set(ACCOUNTS)
    business.deliver([line(account, subject=account) for account in ACCOUNTS])
    business.ingest()
    whole = event_files(business.home, MONTHS)
    assert len(whole) > 16
    parts = [event_files(replace(business.home, buckets=buckets), MONTHS) for buckets in bucket_ranges(8)]
    assert sorted(path for part in parts for path in part) == whole
    assert max(map(len, parts)) <= 4
    own = scan_account_events(business.home, MONTHS, ACCOUNTS[3]).collect()
    assert own.equals(scan_events(business.home, MONTHS).filter(account_id=ACCOUNTS[3]).collect())
    assert own["id"].to_list() == [ACCOUNTS[3]]


def test_events_of_a_home_without_state_are_found(business: Business) -> None:
    business.accounts = set(ACCOUNTS)
    business.deliver([line(account, subject=account) for account in ACCOUNTS])
    business.ingest()
    state_path(business.home).unlink()
    require_whole(business.home, 5)


def test_an_account_that_is_known_no_more_is_in_no_shard(business: Business) -> None:
    business.accounts = set(ACCOUNTS)
    business.deliver([line(account, subject=account) for account in ACCOUNTS])
    business.ingest()
    business.accounts = set(ACCOUNTS[:7])
    business.ingest()
    require_whole(business.home, 5)
    assert len(accounts_of_events(business.home)) == 7


def test_a_shard_without_accounts_has_no_events(tmp_path: Path) -> None:
    business = Business(Home(tmp_path), accounts={"acme"})
    business.deliver([line()])
    business.ingest()
    others = [buckets for buckets in bucket_ranges(BUCKETS) if buckets.first != bucket_of("acme")]
    assert scan_events(replace(business.home, buckets=others[0]), MONTHS).collect().is_empty()
