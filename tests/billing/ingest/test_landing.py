"""Where delivered files may lie, what is left alone, and what is named because nothing is billed from it (rule 22)."""

import os
from contextlib import suppress
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.ingest.landing import delivered_files, delivery_days, is_left_alone
from billing.store.home import Home
from tests.billing.ingest.small_business import Business, line

DAY = date(2026, 1, 2)
LAYOUTS = ["2026-01-02", "day=2026-01-02", "2026/01/02"]


def names(business: Business, through: date | None = None) -> list[tuple[date, str]]:
    return [(file.day, file.name) for file in delivered_files(business.home, through).files]


def counted_by_file(business: Business) -> dict[str, int]:
    return dict(business.table("ingest").select("file", "counted").iter_rows())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["a.jsonl", "edge/a.jsonl", "17/eu/host-1/a.jsonl"])
def test_a_file_of_a_day_is_named_by_its_path_below_the_folder_of_the_day(
    business: Business, layout: str, name: str
) -> None:
    business.deliver(line(), day=layout, name=name)
    outcome = business.ingest()
    assert (outcome.counted, outcome.unreadable_files) == (1, ())
    assert business.table("ingest").select("delivery_day", "file").rows() == [(DAY, name)]
    assert delivery_days(business.home) == [DAY]


def test_a_delivery_moved_to_another_layout_is_the_same_delivery(business: Business) -> None:
    business.deliver(line(), name="a.jsonl")
    business.ingest()
    before = business.lake()
    usage = business.home.landing / "usage"
    (usage / "2026-01-02").rename(usage / "day=2026-01-02")
    outcome = business.ingest()
    assert (outcome.files_read, outcome.days_changed, business.lake()) == (0, (), before)


def test_files_of_one_name_in_several_folders_of_a_day_all_count_and_keep_their_names(business: Business) -> None:
    first = business.deliver(line("1"), day=LAYOUTS[0])
    business.deliver(line("2"), day=LAYOUTS[1])
    business.deliver(line("3"), day=LAYOUTS[2])
    business.ingest()
    found = {"a.jsonl": 1, "day=2026-01-02/a.jsonl": 1, "2026/01/02/a.jsonl": 1}
    assert counted_by_file(business) == found
    # archiving changes nothing: no other file takes the place of the one that is gone
    first.unlink()
    outcome = business.ingest()
    assert (outcome.counted, outcome.warnings, counted_by_file(business)) == (3, (), found)


@pytest.mark.parametrize(
    "name",
    [
        *(".hidden.jsonl", "_SUCCESS", "_temporary.jsonl", "a.jsonl.tmp", "a.jsonl.part", "a.jsonl.PART"),
        *("a.jsonl.crdownload", "a.jsonl.filepart", "a.jsonl.inprogress", "a.jsonl.md5", "a.jsonl.crc", "A.CRC"),
        *(
            "Thumbs.db",
            "manifest",
            "manifest.json",
            "2026-01-manifest.json",
            "inventory.manifest",
            "x_manifest.json.gz",
        ),
        "_temporary/0/a.jsonl",
    ],
)
def test_what_is_no_delivery_is_left_alone(business: Business, name: str) -> None:
    business.deliver("garbage", name=name)
    business.deliver("garbage", day=".", name=name)
    outcome = business.ingest()
    assert (outcome.rows, outcome.unreadable_files) == (0, ())


@pytest.mark.parametrize("name", ["manifest.jsonl", "manifest.csv", "shipping-manifest.parquet", "manifests.json"])
def test_what_may_hold_rows_is_read_whatever_it_is_called(name: str) -> None:
    assert not is_left_alone(name)


@pytest.mark.parametrize(
    "path",
    [
        *("a.jsonl", "20260102/a.jsonl", "2026-02-30/a.jsonl", "january/a.jsonl", "2026-1-2/a.jsonl"),
        *("day=20260102/a.jsonl", "dt=2026-01-02/a.jsonl", "0001-01-01/a.jsonl", "9999-12-31/a.jsonl"),
        *("2026/a.jsonl", "2026/01/a.jsonl", "2026/13/01/a.jsonl", "2026/01/32/a.jsonl", "2026/1/2/a.jsonl"),
    ],
)
def test_what_lies_in_no_delivery_day_is_named_and_everything_else_is_read(business: Business, path: str) -> None:
    business.deliver(line(), day=".", name=path)
    business.deliver(line(), day="2026-01-03")
    outcome = business.ingest()
    assert outcome.counted == 1
    (told,) = outcome.unreadable_files
    folder = path.removesuffix("/a.jsonl")
    assert told.startswith((f"usage/{folder}/: found", f"usage/{path}: found", "usage/2026/13/: ", "usage/2026/1/: "))
    assert "YYYY-MM-DD" in told


def test_links_that_lead_nowhere_or_round_and_round_stop_nobody(business: Business) -> None:
    folder = business.deliver(line()).parent
    (folder / "itself.jsonl").symlink_to("itself.jsonl")
    (folder / "nothing.jsonl").symlink_to("gone.jsonl")
    (folder / "above").symlink_to(folder)
    (folder.parent / "2026-01-03").symlink_to("2026-01-03")
    (folder.parent / "2026").symlink_to(folder.parent)
    outcome = business.ingest()
    assert outcome.counted == 1
    assert [told.partition(" ")[0] for told in outcome.unreadable_files] == [
        "usage/2026:",
        "usage/2026-01-03:",
        "usage/2026-01-02/above",
        "usage/2026-01-02/itself.jsonl",
        "usage/2026-01-02/nothing.jsonl",
    ]


def test_a_folder_that_cannot_be_read_is_named(business: Business, monkeypatch: pytest.MonkeyPatch) -> None:
    business.deliver(line("1"), name="good.jsonl")
    business.deliver(line("2"), name="closed/a.jsonl")
    scan = os.scandir

    def closed(path: str) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    outcome = business.ingest()
    assert outcome.counted == 1
    assert "closed" in outcome.unreadable_files[0] and "Permission denied" in outcome.unreadable_files[0]
    # read again when it can be
    monkeypatch.undo()
    outcome = business.ingest()
    assert (outcome.counted, outcome.unreadable_files) == (2, ())


def test_a_file_of_which_no_row_counts_is_told_with_its_reasons(business: Business) -> None:
    business.deliver([line("1", subject="nobody"), line("2", subject="nobody"), "no JSON"], name="refused.jsonl")
    business.deliver([line("3"), "no JSON"], name="good.jsonl")
    business.deliver([line("3")], name="repeated.jsonl")
    business.deliver([], name="withdrawn.jsonl")
    assert business.ingest().unreadable_files == (
        "usage/2026-01-02/refused.jsonl: none of its rows counts: unknown_account 2, unparseable 1",
    )
    business.accounts.add("nobody")
    assert business.ingest().unreadable_files == ()


PARTS = st.sampled_from(
    [
        *("2026-01-02", "day=2026-01-02", "2026", "01", "02", "99", "20260102", "0001-01-01", "edge"),
        *("a.jsonl", "b.csv", "x.parquet.gz", "data", ".hidden", "_SUCCESS", "a.part", "manifest.json", "\u00fc.jsonl"),
    ]
)


@settings(max_examples=80)
@given(st.sets(st.lists(PARTS, min_size=1, max_size=6).map(tuple), min_size=1, max_size=12))
def test_every_file_is_read_named_or_left_alone_and_no_two_share_a_name(
    tmp_path_factory: pytest.TempPathFactory, tree: set[tuple[str, ...]]
) -> None:
    home = Home(tmp_path_factory.mktemp("home"))
    usage = home.landing / "usage"
    written = []
    for parts in sorted(tree):
        path = usage.joinpath(*parts)
        with suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(exist_ok=False)
            written.append(path)
    found = delivered_files(home, None)
    read = {file.path for file in found.files}
    for path in written:
        below = path.relative_to(usage)
        is_named = any({str(each), f"{each}/"} & set(found.strays) for each in (below, *below.parents))
        is_alone = any(map(is_left_alone, below.parts))
        assert (path in read) + is_named + (is_alone and path not in read and not is_named) == 1, below
        assert not (is_alone and path in read)
    assert read <= set(written)
    assert len({(file.day, file.name) for file in found.files}) == len(found.files)
