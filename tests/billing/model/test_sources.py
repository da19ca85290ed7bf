"""Which source reads a file, and when a source is another one."""

from dataclasses import replace

import pytest

from billing.model.json_paths import EVERY, json_path
from billing.model.sources import Identity, Source, TextRule, TimeRule, source_of

SOURCE = Source(
    "a", ("*.log",), "combined", Identity("content"), TextRule(const="t"), TextRule("host"), TimeRule("time")
)


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("*.log", ("a.log", ".log"), ("a/b.log", "a.log.gz")),
        ("*.access.log*", ("x.access.log", "x.access.log.1.gz"), ("d/x.access.log",)),
        ("edge/**", ("edge/a", "edge/a/b.log"), ("edge", "edges/a")),
        ("**/*.log", ("a.log", "x/y/a.log"), ("a.txt",)),
        ("a/**/b", ("a/b", "a/x/y/b"), ("ab", "a/xb")),
        ("**", ("a", "a/b"), ()),
        ("web-?.log", ("web-1.log",), ("web-12.log", "web-/.log")),
        ("web-[0-3].log", ("web-2.log",), ("web-4.log",)),
        ("web-[!0-3].log", ("web-4.log",), ("web-2.log", "web-/.log")),
        ("a+b(c).log", ("a+b(c).log",), ("aab(c).log",)),
        ("*", ("a",), ("a/b",)),
        # Names that the listing gives files of a second folder of a day.
        ("edge/*", ("2~edge/a", "day=2026-01-02/edge/a", "2026/01/02/edge/a"), ()),
    ],
)
def test_patterns_match_the_path_below_the_day(
    pattern: str, matching: tuple[str, ...], others: tuple[str, ...]
) -> None:
    source = replace(SOURCE, files=(pattern,))
    assert [name for name in (*matching, *others) if source_of(name, [source])] == list(matching)


def test_the_first_that_matches_reads() -> None:
    other = replace(SOURCE, name="b", files=("**",))
    assert [source_of(name, (SOURCE, other)) for name in ("a.log", "x/a.log")] == [SOURCE, other]
    assert source_of("a", ()) is None


def test_a_source_is_another_one_when_it_would_read_other_events() -> None:
    assert replace(SOURCE, files=("b",)).digest == SOURCE.digest
    for change in ({"name": "b"}, {"nulls": ("-",)}, {"id": Identity("position")}, {"counts_last_line": True}):
        assert replace(SOURCE, **change).digest != SOURCE.digest
    # A released digest: another one would read every file of every source again.
    assert SOURCE.digest == "02a4a959265c"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a", ("a",)),
        ("a.b", ("a", "b")),
        ("a[0].b", ("a", 0, "b")),
        ("a[*].b[*]", ("a", EVERY, "b", EVERY)),
        ('["a.b"].c', ("a.b", "c")),
        ("a['b.c']", ("a", "b.c")),
        ("client ip", ("client ip",)),
    ],
)
def test_paths(text: str, path: tuple[str | int, ...]) -> None:
    assert json_path(text) == path


@pytest.mark.parametrize("text", ["", ".a", "a.", "a..b", "a[", "a[x]", "a[0]b", "a]"])
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        json_path(text)
