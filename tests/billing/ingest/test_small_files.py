"""Many small delivered files: parsed together and kept in few files, with the result of each by itself."""

import gzip
import json
import random
import time
from collections.abc import Callable
from datetime import date

import polars as pl
import pytest
import zstandard

from billing.ingest import parsed_deliveries, small_files
from billing.ingest.formats import compression
from billing.ingest.landing import DeliveredFile
from billing.ingest.metric_members import event_types
from billing.ingest.parsed_files import FileVersion, parse_delivered
from billing.model.errors import InterruptedRunError
from billing.model.file_limits import Limits
from tests.billing.ingest.small_business import METRICS, Business, event, line, metric
from tests.sizes import sized

NewBusiness = Callable[[str], Business]

HEADER = "id,source,type,subject,time,value\n"


def contents(each: int) -> bytes:
    """A small file of one of many kinds; most are events as they should be."""
    good = line(f"e{each}", source=f"/s{each % 3}", data={"count": each + 1})
    kinds: dict[int, bytes | str] = {
        0: f"{good}\n{line(f'f{each}')}\n",
        1: good,
        2: gzip.compress(f"{good}\n".encode()),
        3: zstandard.compress(good.encode()),
        4: "",
        5: f"{good}\nno JSON\n",
        6: line(f"n{each}", subject="nobody") + "\n",
        7: line(f"t{each}", type="unheard") + "\n",
        8: HEADER + f"c{each},/csv,email.sent,acme,2026-01-01T12:00:00Z,3\n",
        9: f"\ufeff{good}\r\n{line('same')}\r\n",
        10: json.dumps(event(f"p{each}"), indent=1),
        11: line("same") + "\n",
        12: line("same", data={"count": 9}) + "\n",
        13: f"{good}{line(f'g{each}')}\n",
        14: f"\n{good}\n\n",
        15: "PK\x03\x04 a workbook",
        16: line(f"u{each}", type="page.viewed", data={"visitor": "größe"}) + "\n",
        17: f"[{good}, {line(f'h{each}')}]",
        18: line(f"d{each}", data={"count": "1e2"}) + "\n" + line(f"m{each}", data=None) + "\n",
    }
    csv_row = f"c{each},/csv,email.sent,acme,2026-01-01T12:00:00Z"
    kinds |= {
        19: HEADER + f"{csv_row},4\nd{csv_row},-4\n",
        20: HEADER + f"{csv_row},5",
        21: HEADER + f"{csv_row},6\nd{csv_row},7,8\n",
        22: HEADER + f'{csv_row},"7"\n\nd{csv_row},8\n',
        23: HEADER.replace("value", "data.count").replace("\n", "\r\n") + f"{csv_row},8\r\n",
        24: HEADER,
        25: f'{{"a": 1}}\n{good}{line(f"k{each}")}\n',
        26: f"{good}\r\n{line(f'q{each}', subject=' acme ')}\r\n",
        27: line(f"w{each}", time="2026-01-01 12:00") + "\n" + line(f"z{each}\u0007") + "\n",
    }
    content = kinds.get(each % 35, f"{good}\n")
    return content if isinstance(content, bytes) else content.encode()


def name_of(each: int) -> str:
    ending = {2: ".jsonl.gz", 3: ".jsonl.zst", 8: ".csv", 15: ".xlsx", 24: ".csv"}.get(each % 35, ".json")
    return f"{each % 7:02d}/{each:05d}{ending}"


@pytest.fixture
def pair(new_business: NewBusiness, monkeypatch: pytest.MonkeyPatch) -> tuple[Business, Business]:
    """Two businesses that get the same deliveries; files are parsed together in the first only."""
    monkeypatch.setattr(parsed_deliveries, "_PARSED_TOGETHER", 11)
    together, alone = new_business("together"), new_business("alone")
    original = Business.ingest

    def ingest(self: Business, through: date | None = None) -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parsed_deliveries, "_MANY", 2 if self is together else 10**9)
            patch.setattr(parsed_deliveries, "_MOST_SMALL", 4 if self is together else 10**9)
            return original(self, through)

    monkeypatch.setattr(Business, "ingest", ingest)
    return together, alone


def assert_alike(pair: tuple[Business, Business]) -> None:
    one, other = (business.ingest() for business in pair)
    assert (one.rows, one.counted, one.duplicates, one.rejected) == (
        other.rows,
        other.counted,
        other.duplicates,
        other.rejected,
    )
    assert (one.warnings, one.unreadable_files, one.days_changed) == (
        other.warnings,
        other.unreadable_files,
        other.days_changed,
    )
    assert pair[0].lake() == pair[1].lake()


def parsed_files(business: Business) -> int:
    return len(list((business.home.lake / "parsed_files").rglob("*.parquet")))


@pytest.mark.parametrize("seed", sized(usual=range(1), long=range(2)))
def test_the_lake_is_the_same_to_the_byte_whatever_is_parsed_together_and_however_it_comes(
    pair: tuple[Business, Business], seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 # not for secrets
    known: list[tuple[str, str]] = []
    for turn in range(sized(usual=2, long=0), 7):
        for each in chance.sample(range(105), sized(usual=8, long=17)):
            day = f"2026-01-0{chance.choice([2, 2, 2, 3])}"
            known.append((day, name_of(each)))
            for business in pair:
                business.deliver(contents(each), day=day, name=name_of(each))
        if turn == 2:
            # one that is too large to be parsed together, in between
            large = "".join(f"{line(f'l{number}')}\n" for number in range(1_000))
            for business in pair:
                business.deliver(large, name="03/00010x.json")
        if turn in (3, 5):
            day, name = chance.choice(known)
            for business in pair:
                business.deliver(line("changed"), day=day, name=name)
        if turn == 4:
            for day, name in chance.sample(known, 9):
                for business in pair:
                    (business.home.landing / "usage" / day / name).unlink(missing_ok=True)
        if turn == 5:
            for business in pair:
                business.accounts.add("nobody")
        if turn == 6:
            for business in pair:
                business.metrics = (*METRICS, metric("unheard", "unheard", None, measure="count"))
        assert_alike(pair)
    assert parsed_files(pair[0]) < parsed_files(pair[1]) / 3
    # whatever is lost of the state, what is in the parsed files and in landing gives it again
    for business in pair:
        (business.home.lake / "ingest_state.json").unlink()
    assert_alike(pair)


def test_an_event_that_comes_again_on_another_day_is_found_among_small_files(pair: tuple[Business, Business]) -> None:
    for business in pair:
        for each in range(30):
            business.deliver(line(f"e{each}"), name=f"{each}.json")
    assert_alike(pair)
    for business in pair:
        business.deliver([line("e7"), line("e8", data={"count": 5}), line("new")], day="2026-01-03")
    assert_alike(pair)
    assert pair[0].table("ingest").filter(pl.col("file") == "a.jsonl").select("duplicates", "rejected").row(0) == (1, 1)


def test_of_files_parsed_together_an_empty_one_may_be_the_last_that_is_current(pair: tuple[Business, Business]) -> None:
    for business in pair:
        for each in range(4):
            business.deliver("" if each == 3 else line(f"e{each}"), name=f"{each}.json")
    assert_alike(pair)
    for business in pair:
        for each in range(3):
            business.deliver([line(f"e{each}"), line(f"n{each}")], name=f"{each}.json")
    assert_alike(pair)
    assert pair[0].ingest().counted == 6


@pytest.mark.parametrize("each", range(35))
def test_each_kind_of_file_is_parsed_together_as_it_is_alone(business: Business, each: int) -> None:
    types = event_types(METRICS)
    jobs = []
    for number in (each, 29, each + 35, 30, each + 70, 8):
        path = business.deliver(contents(number), name=name_of(number))
        jobs.append(
            (FileVersion(date(2026, 1, 2), name_of(number), ""), DeliveredFile(date(2026, 1, 2), name_of(number), path))
        )
    found = {}
    for part in small_files.parse_together(jobs, types):
        start = 0
        for version, rows in part.files:
            found[version.name] = part.rows.slice(start, rows)
            start += rows
    for version, file in jobs:
        if each == 15 and file.name.endswith(".xlsx"):
            assert found[version.name]["reason"].to_list() == ["unreadable_file"]
        else:
            assert found[version.name].equals(pl.concat(parse_delivered(file, types))), file.name


def test_a_small_file_that_changes_while_it_is_read_is_read_again_by_the_next_run(
    business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [business.deliver(line(f"e{each}"), name=f"{each:02d}.json") for each in range(20)]
    original = small_files._whole_lines
    seen: list[str] = []

    def changing(job: small_files.Job, limits: Limits, source: None) -> object:
        if not seen:
            paths[5].write_text(line("other") + "\n" + line("more"))
        seen.append(job[1].name)
        return original(job, limits, source)

    monkeypatch.setattr(small_files, "_whole_lines", changing)
    with pytest.raises(InterruptedRunError, match=r"05\.json was changed while it was read"):
        business.ingest()
    assert business.ingest().counted == 21


def test_a_small_file_that_goes_beyond_a_limit_is_read_again_when_the_limit_is_raised(
    pair: tuple[Business, Business], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "EXEMPT_FROM_RATIO", 0)
    for business in pair:
        for each in range(30):
            business.deliver(line(f"e{each}"), name=f"{each}.json")
        bomb = gzip.compress(b"".join(f"{line('same')}\n".encode() for _ in range(400)), mtime=0)
        business.deliver(bomb, name="bomb.json.gz")
        business.limits = Limits(largest_ratio=2)
    assert_alike(pair)
    (told,) = pair[0].ingest().unreadable_files
    assert "largest_ratio" in told
    for business in pair:
        business.limits = Limits(largest_ratio=1_000)
    assert_alike(pair)
    assert pair[0].ingest().unreadable_files == ()


def test_quantities_that_are_rounded_are_counted_by_file(pair: tuple[Business, Business]) -> None:
    for business in pair:
        for each in range(20):
            business.deliver(line(f"e{each}", data={"count": f"1.{'1' * (each % 12 + 1)}"}), name=f"{each}.json")
    assert_alike(pair)
    assert pair[0].table("ingest")["rounded"].sum() == 3


def test_deliveries_of_a_file_at_a_time_leave_a_bounded_number_of_files(
    business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parsed_deliveries, "_MOST_SMALL", 5)
    for each in range(23):
        business.deliver(line(f"e{each}"), name=f"{each}.json")
        assert business.ingest().counted == each + 1
        assert parsed_files(business) <= 5
    before = business.lake()
    assert (business.ingest().files_read, business.lake()) == (0, before)


def test_two_thousand_files_of_an_event_take_little_time_and_few_files(business: Business) -> None:
    count = 2_000
    for each in range(count):
        business.deliver(line(f"e{each}"), name=f"{each // 100:02d}/{each}.json")
    started = time.process_time()
    outcome = business.ingest()
    spent = time.process_time() - started
    assert (outcome.counted, outcome.files_read, outcome.unreadable_files) == (count, count, ())
    assert spent / count < 0.003
    assert sum(path.is_file() for path in business.home.lake.rglob("*")) < 10
    assert business.ingest().files_read == 0
