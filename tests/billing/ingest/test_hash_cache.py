from pathlib import Path

import polars as pl
import pytest

from billing.ingest import hash_cache as kept_hashes
from billing.ingest.deduplication import identity_hash
from billing.ingest.hash_cache import cache_hashes, cache_missing_hashes, remove_hashes, scan_hashes
from tests.billing.ingest.small_business import line
from tests.billing.ingest.test_deliveries import NewBusiness, some_deliveries
from tests.sizes import sized

ROWS = pl.DataFrame({"source": ["a", "a", None, "b"], "id": ["1", "2", "3", "1"], "row": [1, 2, 3, 5]})
HASHES = ROWS.select(identity_hash()).to_series()


@pytest.fixture
def parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A parsed file, and few rows enough to keep hashes of."""
    monkeypatch.setattr(kept_hashes, "_WORTH_CACHING", 4)
    path = tmp_path / "events.jsonl.abc.parquet"
    ROWS.write_parquet(path)
    return path


def test_hashes_are_those_of_the_rows_whether_kept_or_not(parsed: Path) -> None:
    computed = scan_hashes(parsed).collect()
    assert computed["hash"].equals(HASHES)
    assert computed["place"].to_list() == [0, 1, 2, 3]
    cache_hashes(parsed, HASHES)
    assert len(list(parsed.parent.glob("*.hashes"))) == 1
    assert scan_hashes(parsed).collect().equals(computed)


def test_what_is_kept_is_read_instead_of_the_rows(parsed: Path) -> None:
    others = pl.Series("hash", [1, 2, 3, 4], dtype=pl.UInt64)
    cache_hashes(parsed, others)
    assert scan_hashes(parsed).collect()["hash"].equals(others)


def test_hashes_of_another_function_are_computed_again(parsed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(kept_hashes, "_hash_function_digest", lambda: "another")
        cache_hashes(parsed, pl.Series("hash", [1, 2, 3, 4], dtype=pl.UInt64))
    assert scan_hashes(parsed).collect()["hash"].equals(HASHES)
    cache_missing_hashes(parsed)
    assert len(list(parsed.parent.glob("*.hashes"))) == 2
    assert scan_hashes(parsed).collect()["hash"].equals(HASHES)
    remove_hashes(parsed)
    assert [path.name for path in parsed.parent.iterdir()] == [parsed.name]


@pytest.mark.parametrize("place", [0, 10, -30])
def test_what_is_kept_and_cut_off_is_computed_again(parsed: Path, place: int) -> None:
    cache_hashes(parsed, HASHES)
    (kept,) = parsed.parent.glob("*.hashes")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:place])
    assert scan_hashes(parsed).collect()["hash"].equals(HASHES)
    cache_missing_hashes(parsed)
    assert kept.read_bytes() == whole


def test_hashes_of_other_rows_are_computed_again(parsed: Path) -> None:
    cache_hashes(parsed, pl.concat([HASHES, HASHES]))
    assert scan_hashes(parsed).collect()["hash"].equals(HASHES)


def test_of_few_rows_none_are_kept(parsed: Path) -> None:
    cache_hashes(parsed, HASHES.head(3))
    assert not list(parsed.parent.glob("*.hashes"))


@pytest.mark.parametrize("seed", sized(usual=range(1), long=range(4)))
def test_the_lake_is_the_same_when_hashes_are_kept(
    new_business: NewBusiness, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    late, kept = new_business("late"), new_business("kept")
    for day, name, rows in some_deliveries(seed):
        for business in (late, kept):
            business.deliver(rows, day, name)
        late.ingest()
        with monkeypatch.context() as patch:
            patch.setattr(kept_hashes, "_WORTH_CACHING", 1)
            kept.ingest()
        assert kept.lake() == late.lake()
    monkeypatch.setattr(kept_hashes, "_WORTH_CACHING", 1)
    for business in (kept, late):
        files = business.home.lake / "parsed_files"
        business.deliver([line("a new one"), line("1")], "2026-01-20", "more.jsonl")
        business.ingest()
        # of a file that counts there is one of each, of others none
        stems = sorted(path.stem for path in files.glob("*/*.parquet") if pl.read_parquet(path).height)
        assert sorted(path.stem.rpartition(".")[0] for path in files.glob("*/*.hashes")) == stems
    assert kept.lake() == late.lake()
