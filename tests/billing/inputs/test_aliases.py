"""landing/aliases: the accounts behind names in raw logs."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.inputs.aliases import read_aliases
from billing.inputs.catalogue_file import load_catalogue
from billing.inputs.row_checks import RowsRead
from billing.model.errors import RefusedError
from billing.starter import write_starter_home
from billing.store.home import Home

HEADER = "kind,alias,account_id,from,to"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home") / "home"
    write_starter_home(folder)
    return folder


def read(root: Path, *rows: str, name: str = "aliases.csv") -> tuple[pl.DataFrame, RowsRead]:
    home = Home(root)
    path = home.landing / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    noticed = RowsRead()
    try:
        return read_aliases(home, load_catalogue(home.landing / "catalogue.yaml"), noticed), noticed
    finally:
        path.unlink()


def test_dates_may_be_open_on_both_sides(root: Path) -> None:
    found, noticed = read(
        root, "host,a.example.com,acme,,2026-02-01", "host,a.example.com,globex,2026-02-01,", " user , u1 ,acme,,"
    )
    assert found.rows() == [
        ("host", "a.example.com", "acme", None, date(2026, 2, 1)),
        ("host", "a.example.com", "globex", date(2026, 2, 1), None),
        ("user", "u1", "acme", None, None),
    ]
    assert not noticed.rejects


def test_a_folder_of_files_is_read(root: Path) -> None:
    assert len(read(root, "host,a.example.com,acme,,", name="aliases/hosts.csv")[0]) == 1


def test_wrong_rows_are_set_aside(root: Path) -> None:
    rows = ("host,,acme,,", "host,a,acme,2026-02-30,", "host,b,acme,2026-02-01,2026-02-01", "host,c,acme,,", "host,d")
    found, noticed = read(root, *rows)
    assert found["alias"].to_list() == ["c"]
    assert noticed.rejects[0]["reason"].to_list() == [
        "missing_field",
        "impossible_value",
        "impossible_value",
        "unparseable",
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("acme,,", "globex,,"),
        ("acme,,2026-02-02", "globex,2026-02-01,"),
        ("acme,2026-01-01,2026-03-01", "globex,2026-02-01,2026-02-02"),
        ("acme,2026-01-01,", "acme,2026-02-01,"),
    ],
)
def test_overlaps_of_one_kind_and_name_are_refused(root: Path, one: str, other: str) -> None:
    with pytest.raises(RefusedError) as refused:
        read(root, f"host,a.example.com,{one}", f"host,a.example.com,{other}")
    assert "the host 'a.example.com' of" in str(refused.value.problems[0])
    assert len(read(root, f"host,a,{one}", f"host,b,{other}", f"user,a,{other}")[0]) == 3


def test_the_same_row_twice_says_the_same(root: Path) -> None:
    assert len(read(root, "host,a,acme,,", "host,a,acme,,")[0]) == 1


DAY = st.none() | st.dates(date(2026, 1, 1), date(2026, 1, 12))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(DAY, DAY), min_size=1, max_size=4, unique=True))
def test_rows_are_refused_exactly_when_a_date_is_in_two_of_them(
    root: Path, spans: list[tuple[date | None, date | None]]
) -> None:
    spans = [(since, until) for since, until in spans if since is None or until is None or since < until]
    days = [date.fromordinal(date(2025, 12, 30).toordinal() + n) for n in range(20)]
    overlap = any(sum((since or date.min) <= day < (until or date.max) for since, until in spans) > 1 for day in days)
    rows = [f"host,a,acme{n},{since or ''},{until or ''}" for n, (since, until) in enumerate(spans)]
    try:
        found, _ = read(root, *rows)
    except RefusedError:
        assert overlap
    else:
        assert not overlap and len(found) == len(spans)
