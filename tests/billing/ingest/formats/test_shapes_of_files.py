"""Whatever one delivered file is like, the others are read as if it were not there (rule 27)."""

from collections.abc import Callable
from datetime import date

import polars as pl
import pyarrow as pa
import pytest

from billing.ingest import IngestOutcome, parsed_files
from billing.ingest.landing import DeliveredFile
from billing.ingest.metric_members import EventTypes
from billing.ingest.parsed_rows import Chunk, set_aside
from billing.store.home import Home
from tests.billing.ingest.formats.shapes_of_files import READ, SPOILT, UNREADABLE, Shape, parquet, uuids
from tests.billing.ingest.small_business import Business, line


@pytest.fixture(scope="module")
def events_alone(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The events of a good file without any other."""
    business = Business(Home(tmp_path_factory.mktemp("alone")))
    deliver_good_file(business)
    business.ingest()
    return business.events()


def deliver_good_file(business: Business) -> None:
    business.deliver([line("1"), line("2", subject="globex")], name="z good.jsonl")


def good_events(business: Business) -> pl.DataFrame:
    return business.events().filter(pl.col("file") == "z good.jsonl")


Ingested = Callable[[Shape], tuple[Business, IngestOutcome]]


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    """A business to which a file was delivered beside a good one, for all tests that look at it."""
    found: dict[str, tuple[Business, IngestOutcome]] = {}

    def once(shape: Shape) -> tuple[Business, IngestOutcome]:
        if shape.title not in found:
            business = Business(Home(tmp_path_factory.mktemp("shape")))
            business.deliver(shape.make(), name=shape.name)
            deliver_good_file(business)
            found[shape.title] = business, business.ingest()
        return found[shape.title]

    return once


@pytest.mark.parametrize("shape", [*READ, *SPOILT], ids=str)
def test_a_file_is_read_by_what_it_holds(ingested: Ingested, events_alone: pl.DataFrame, shape: Shape) -> None:
    business, outcome = ingested(shape)
    # a file of which no row counts is named like one that cannot be read
    assert len(outcome.unreadable_files) == (shape.counted == 0 and shape.rejected != 0)
    assert (outcome.counted - 2, outcome.rejected) == (shape.counted, shape.rejected)
    assert good_events(business).equals(events_alone)
    rejects = business.table("rejects")
    assert rejects["detail"].str.contains(r"^[a-z_.]+: found .+, expected .+").all()


def name_among_all(shape: Shape) -> str:
    """What an unreadable file is called where all of them are delivered together."""
    return f"{UNREADABLE.index(shape):02} {shape.name}"


@pytest.fixture(scope="module")
def all_unreadable(tmp_path_factory: pytest.TempPathFactory) -> tuple[Business, IngestOutcome]:
    """A business to which all unreadable files were delivered, and a good one."""
    business = Business(Home(tmp_path_factory.mktemp("unreadable")))
    for shape in UNREADABLE:
        business.deliver(shape.make(), name=name_among_all(shape))
    deliver_good_file(business)
    return business, business.ingest()


@pytest.mark.parametrize("shape", UNREADABLE, ids=str)
def test_an_unreadable_file_is_one_reject_and_keeps_no_other_from_counting(
    all_unreadable: tuple[Business, IngestOutcome], events_alone: pl.DataFrame, shape: Shape
) -> None:
    business, outcome = all_unreadable
    assert len(outcome.unreadable_files) == len(UNREADABLE)
    assert len([words for words in outcome.unreadable_files if name_among_all(shape) in words]) == 1
    assert (outcome.counted, outcome.rejected) == (2, len(UNREADABLE))
    assert good_events(business).equals(events_alone)
    rejects = business.table("rejects").filter(pl.col("file") == name_among_all(shape))
    assert rejects.select("row", "reason").rows() == [(None, "unreadable_file")]


def test_a_panic_of_a_library_concerns_the_file_that_it_was_reading(
    business: Business, events_alone: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def panics(piece: Chunk, types: EventTypes, flat: bool) -> pl.DataFrame:
        if "panics" in piece.fields["id"]:
            raise pl.exceptions.PanicException("not implemented: Decimal256")
        return set_aside(piece, types, flat=flat)

    monkeypatch.setattr(parsed_files, "set_aside", panics)
    business.deliver(line("panics"), name="a.jsonl")
    deliver_good_file(business)
    outcome = business.ingest()
    assert "cannot be read (PanicException: not implemented: Decimal256)" in outcome.unreadable_files[0]
    assert good_events(business).equals(events_alone)


def test_the_words_about_an_unreadable_file_are_short_and_harmless(business: Business) -> None:
    business.deliver(b"id,4111 1111 1111 1111,\x1b[2J" + b"," * 10_000 + b"\n", name="a.csv")
    (words,) = business.ingest().unreadable_files
    shown = " ".join([words, *business.table("rejects").select("text", "detail").row(0)])
    assert "**** **** **** 1111" in shown and "4111 1111" not in shown
    assert shown.isprintable() and len(shown) < 5_000


def test_a_failing_disk_is_not_taken_for_an_unreadable_file(
    business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parsed_files, "write_row_groups", full)
    business.deliver(line("1"))
    with pytest.raises(OSError, match="No space left"):
        business.ingest()


@pytest.mark.parametrize("target", ["loop.jsonl", "../2026-01-02/loop.jsonl", "nothing.jsonl"])
def test_a_link_to_itself_or_to_nothing_is_an_unreadable_file(
    business: Business, events_alone: pl.DataFrame, target: str
) -> None:
    deliver_good_file(business)
    (business.home.landing / "usage" / "2026-01-02" / "loop.jsonl").symlink_to(target)
    outcome = business.ingest()
    assert (outcome.counted, len(outcome.unreadable_files)) == (2, 1)
    assert good_events(business).equals(events_alone)


def test_a_day_that_is_a_link_to_itself_is_named(business: Business) -> None:
    deliver_good_file(business)
    (business.home.landing / "usage" / "2026-01-03").symlink_to("2026-01-03")
    outcome = business.ingest()
    assert (outcome.counted, len(outcome.unreadable_files)) == (2, 1)
    assert "2026-01-03" in outcome.unreadable_files[0]


def test_a_uuid_and_bytes_of_that_size_are_ids_by_their_digits(business: Business) -> None:
    business.deliver(parquet(good=True, id=uuids()), name="a.parquet")
    business.deliver(parquet(good=True, id=pa.array([bytes(16), b"\xff" * 16], pa.binary(16))), name="b.parquet")
    assert business.ingest().counted == 4
    assert business.events()["id"].sort().to_list() == [
        "0" * 32,
        "00010203-0405-0607-0809-0a0b0c0d0e0f",
        "01020304-0506-0708-090a-0b0c0d0e0f10",
        "f" * 32,
    ]


@pytest.mark.parametrize("shape", [shape for shape in (*READ, *SPOILT) if shape.rejected], ids=str)
def test_the_text_of_a_row_is_found_again_in_its_file(ingested: Ingested, shape: Shape) -> None:
    business, _ = ingested(shape)
    kept = business.table("rejects").select("row", "text").sort("row")
    path = business.home.landing / "usage" / "2026-01-02" / shape.name
    delivered = DeliveredFile(date(2026, 1, 2), shape.name, path)
    found = parsed_files.read_texts(delivered, kept["row"], business.rules().types)
    assert found.sort("row").equals(kept)
