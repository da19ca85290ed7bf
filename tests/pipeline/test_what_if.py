"""What-if through the command: past months under another catalogue, with nothing of the home changed."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl
import pytest

from billing.reports.what_if import Comparison, compare_catalogues
from tests.by_steps import bill_by_steps
from tests.landing import Landing
from tests.pipeline.outside import blank_page, overage
from tests.sizes import LONG

ROOT = Path(__file__).parents[2]
Answer = dict[str, Any]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """small: within its allowances. mails: 27,350 emails in January. grows: outgrows its leads. later: in silver."""
    landing = Landing(tmp_path_factory.mktemp("what-if") / "data")
    landing.customer("small")
    landing.customer("mails")
    landing.use("mails", emails=27_350)
    landing.customer("grows")
    landing.use("grows", leads=2_600)
    landing.customer("later", package="silver", on="2026-02-20")
    with bill_by_steps(landing.root, "2026-04", "2026-04-15").alone():
        # A run locks its home.
        return landing.root


@pytest.fixture(autouse=True)
def blank_paper(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no PDFs, but for the test of the page."""
    if "page" not in request.node.name:
        monkeypatch.setattr("billing.reports.what_if.writing.draw_page", blank_page)


@pytest.fixture
def candidate(home: Path, tmp_path: Path) -> Path:
    """The catalogue of the home, to be changed."""
    path = tmp_path / "candidate.yaml"
    path.write_text((home / "landing" / "catalogue.yaml").read_text())
    return path


def change(candidate: Path, *changes: tuple[str, str]) -> None:
    text = candidate.read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after, 1)
    candidate.write_text(text)


def what_if(home: Path, *arguments: object, since: str = "2026-02", through: str = "2026-04") -> Any:
    out = Path(str(arguments[0])).parent / "out"
    given = ["--as-of", "2026-04-15", *arguments, "--from", since, "--through", through, "--out", out]
    ended = overage("what-if", *given, "--format", "json", "--home", home)
    assert ended.status == 0, ended.messages
    return json.loads(ended.output)


def accounts(found: Answer) -> dict[str, tuple[str, str, str]]:
    return {row["account_id"]: (row["before"], row["after"], row["why"]) for row in found["accounts"]}


def times(home: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(home.rglob("*"))}


def test_the_catalogue_as_it_is_gives_what_was_issued_and_the_home_is_not_touched(home: Path, candidate: Path) -> None:
    before = times(home)
    found = what_if(home, candidate, since="2026-01")
    assert times(home) == before
    assert found["before"] == found["after"] == found["issued"]
    assert found["difference"] == "0.00"
    assert found["upgrades"] == {"caused": 0, "avoided": 0, "moved": 0}
    assert all(row["before"] == row["after"] and row["why"] == "" for row in found["accounts"])
    assert [row["account_id"] for row in found["accounts"]] == ["grows", "later", "mails", "small"]
    assert found["not_reached"] == []


@dataclass(frozen=True)
class Dearer:
    """Higher fees of both packages: the answer, what is said to a person, and the folder."""

    found: Answer
    told: str
    out: Path


@pytest.fixture(scope="module")
def dearer(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Dearer:
    """Computed once, and printed both ways."""
    candidate = tmp_path_factory.mktemp("dearer") / "candidate.yaml"
    candidate.write_text((home / "landing" / "catalogue.yaml").read_text())
    change(candidate, ('monthly: "99.00"', 'monthly: "119.00"'), ('monthly: "199.00"', 'monthly: "200.00"'))
    options = ["--flag-above", "20%", "--grandfather-before", "2026-02-01"]
    computed: list[list[Comparison]] = []

    def compare(*arguments: Any, **how: Any) -> list[Comparison]:
        if not computed:
            computed.append(compare_catalogues(*arguments, **how))
        return computed[0]

    with mock.patch("billing.reports.what_if.compare_catalogues", compare):
        found = what_if(home, candidate, *options)
        with mock.patch("billing.reports.what_if.writing.draw_page", blank_page):
            given = ["--from", "2026-02", "--through", "2026-04", "--as-of", "2026-04-15", "--home", home]
            ended = overage("what-if", candidate, *given, *options, "--out", candidate.parent / "told")
    assert ended.status == 0
    return Dearer(found, " ".join((ended.output + ended.messages).split()), candidate.parent / "out")


def test_a_higher_fee_changes_the_lines_that_bear_on_it_from_the_first_month_on(dearer: Dearer) -> None:
    found = dearer.found
    # grows has been in silver since February; later has always been: 1.00 a month.
    assert accounts(found) == {
        "grows": ("597.00", "600.00", "fee"),
        "later": ("398.00", "400.00", "fee"),
        "mails": ("336.00", "396.00", "fee"),
        "small": ("297.00", "357.00", "fee"),
    }
    assert {row["month"]: (row["before"], row["after"]) for row in found["months"]}["2026-03"] == ("596.00", "638.00")
    assert {row["kind"]: (row["before"], row["after"]) for row in found["lines"]} == {
        "overage": ("39.00", "39.00"),
        "package_fee": ("1589.00", "1714.00"),
    }


TARIFF = "emails:         {model: block, size: 1000, price: "
CANDIDATES = {
    "no-emails": [("leads: 2500, emails: 15000", "leads: 2500, emails: 0")],
    # 8 blocks of 6.00, or of 4.00, instead of 13 of 3.00
    "dearer": [("emails: 15000", "emails: 20000"), (f'{TARIFF}"3.00"', f'{TARIFF}"6.00"')],
    "larger": [("emails: 15000", "emails: 20000"), (f'{TARIFF}"3.00"', f'{TARIFF}"4.00"')],
    "avoids": [("leads: 2500, emails", "leads: 4000, emails")],
    "causes": [("leads: 2500, emails", "leads: 2599, emails"), ("leads: 12500", "leads: 2000")],
}


@pytest.fixture(scope="module")
def side_by_side(home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """What each candidate says of January and February, by its name."""
    folder = tmp_path_factory.mktemp("candidates")
    paths = [folder / f"{name}.yaml" for name in CANDIDATES]
    for path, changes in zip(paths, CANDIDATES.values(), strict=True):
        path.write_text((home / "landing" / "catalogue.yaml").read_text())
        change(path, *changes)
    with mock.patch("billing.reports.what_if.writing.draw_page", blank_page):
        found = what_if(home, *paths, since="2026-01", through="2026-02")
    return {answer["name"]: answer for answer in found}


def test_a_cycle_that_began_before_is_rated_by_the_catalogue_of_the_home(
    home: Path, candidate: Path, side_by_side: dict[str, Answer]
) -> None:
    change(candidate, *CANDIDATES["no-emails"])
    # The emails are in the cycle from 10 January: the home's in February, the candidate's if it begins in January.
    assert accounts(what_if(home, candidate, through="2026-02"))["mails"] == ("138.00", "138.00", "")
    assert accounts(side_by_side["no-emails"])["mails"] == ("237.00", "282.00", "allowance")


def test_of_an_allowance_and_a_tariff_the_one_that_moves_the_line_its_way_is_the_cause(
    side_by_side: dict[str, Answer],
) -> None:
    assert accounts(side_by_side["dearer"])["mails"] == ("237.00", "246.00", "tariff")
    assert accounts(side_by_side["larger"])["mails"] == ("237.00", "230.00", "allowance")


def test_upgrades_are_avoided_and_caused(side_by_side: dict[str, Answer]) -> None:
    found = side_by_side["avoids"]
    assert found["upgrades"] == {"caused": 0, "avoided": 1, "moved": 0}
    assert accounts(found)["grows"] == ("298.00", "198.00", "upgrade avoided")
    found = side_by_side["causes"]
    assert found["upgrades"] == {"caused": 1, "avoided": 1, "moved": 0}
    assert accounts(found)["grows"][2] == "upgrade caused"


def test_a_metric_that_the_candidate_adds_is_measured_from_the_past(home: Path, candidate: Path) -> None:
    text = candidate.read_text()
    added = "  stored: {event: leads.changed, kind: gauge, measure: peak, value: data.delta, carries: delta}\n"
    text = text.replace("metrics:\n", f"metrics:\n{added}", 1).replace("allowances: {", "allowances: {stored: 100, ")
    tariff = 'stored: {model: block, size: 500, price: "1.00"}'
    candidate.write_text(text.replace("        overage:\n", f"        overage:\n          {tariff}\n"))
    found = what_if(home, candidate, since="2026-04")
    # 2,600 stored since January: 5 blocks above 100 in the cycle that closes in April.
    assert accounts(found)["grows"] == ("199.00", "199.00", "")
    found = what_if(home, candidate, since="2026-03")
    assert accounts(found)["grows"] == ("398.00", "403.00", "usage")


def test_the_policy_of_the_candidate_holds(candidate: Path, tmp_path: Path) -> None:
    landing = Landing(tmp_path / "data")
    landing.customer("tardy")
    landing.use("tardy", emails=16_000, delivered="2026-01-25")
    landing.request("tardy", "hold", "2026-02-20T09:00:00Z")
    bill_by_steps(landing.root, "2026-03", "2026-04-15")
    if LONG:
        found = what_if(landing.root, candidate, since="2026-01", through="2026-03")
        assert accounts(found)["tardy"] == ("201.00", "201.00", "")
    change(candidate, ("lateness_days: 90", "lateness_days: 4"), ('hold_fee: "0.00"', 'hold_fee: "7.00"'))
    found = what_if(landing.root, candidate, since="2026-01", through="2026-03")
    assert accounts(found)["tardy"] == ("201.00", "205.00", "hold fee, usage")


@pytest.fixture(scope="module")
def cheapest(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Answer:
    candidate = tmp_path_factory.mktemp("cheapest") / "candidate.yaml"
    candidate.write_text((home / "landing" / "catalogue.yaml").read_text())
    with mock.patch("billing.reports.what_if.writing.draw_page", blank_page):
        found: Answer = what_if(home, candidate, "--seed-choices", "cheapest", since="2026-01", through="2026-03")
    return found


def test_everybody_in_the_cheapest_package_that_fits(cheapest: Answer) -> None:
    # later uses nothing: after its first cycle starter fits.
    assert accounts(cheapest)["later"] == ("398.00", "298.00", "package")
    assert accounts(cheapest)["grows"] == ("497.00", "497.00", "")


def test_an_upgrade_to_the_cheapest_package_is_not_avoided(cheapest: Answer) -> None:
    assert accounts(cheapest)["grows"] == ("497.00", "497.00", "")
    assert cheapest["upgrades"] == {"caused": 0, "avoided": 0, "moved": 0}


def test_flags_and_grandfathers(dearer: Dearer) -> None:
    assert dearer.found["flagged"] == {"above_percent": "20", "accounts": ["small"]}
    assert dearer.found["grandfathered"] == {
        "before_day": "2026-02-01",
        "accounts": 3,
        "before": "1230.00",
        "after": "1353.00",
        "cost": "123.00",
    }


def test_the_table_says_what_the_options_ask_for(dearer: Dearer) -> None:
    assert "Bills that change by more than 20 %: 1 account (flagged.parquet)" in dearer.told
    assert "3 accounts subscribed before 2026-02-01" in dearer.told and "the rule costs 123.00" in dearer.told


def test_only_some_accounts(home: Path, candidate: Path) -> None:
    january = {"since": "2026-01", "through": "2026-01"}
    assert list(accounts(what_if(home, candidate, "--account", "mails", **january))) == ["mails"]
    assert list(accounts(what_if(home, candidate, "--only", "starter", **january))) == ["grows", "mails", "small"]
    assert list(accounts(what_if(home, candidate, "--only", "silver", through="2026-02"))) == ["later"]


def test_what_was_issued_for_later_dates_is_not_counted_as_of_an_earlier_day(home: Path, candidate: Path) -> None:
    found = what_if(home, candidate, "--as-of", "2026-02-15", since="2026-02", through="2026-02")
    assert found["before"] == found["issued"] == "436.00"


def test_candidates_side_by_side(home: Path, candidate: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(candidate.read_text())
    change(other, ('monthly: "99.00"', 'monthly: "89.00"'))
    one, two = what_if(home, candidate, other, since="2026-04")
    assert (one["name"], one["difference"]) == ("candidate", "0.00")
    assert (two["name"], two["difference"]) == ("other", "-20.00")
    assert pl.read_parquet(tmp_path / "out" / "other" / "accounts.parquet")["difference"].sum() == -20
    # Every table that the page names is there.
    named = set(re.findall(r"[\w/-]+\.parquet", (tmp_path / "out" / "what-if.html").read_text()))
    assert "other/totals.parquet" in named
    assert all((tmp_path / "out" / name).exists() for name in named - {"NAME/totals.parquet"})


def test_along_a_price(home: Path, candidate: Path) -> None:
    path = "packages.starter.price.monthly"
    found = what_if(home, candidate, "--vary", f"{path}=89..109/10", "--elasticity", "-0.5", since="2026-04")
    assert found["paths"] == [path]
    assert found["in_force"] == ["99"]
    assert [(row["value_1"], row["difference"]) for row in found["points"]] == [
        ("89", "-20.00"),
        ("99", "0.00"),
        ("109", "20.00"),
    ]
    # 2 fees of 109.00, of which 5.050505... % are not sold.
    assert found["points"][2]["expected"] == "405.99"
    assert found["points"][2]["accounts_more"] == 2


def test_every_number_of_the_page_is_in_the_table_that_it_names(dearer: Dearer) -> None:
    out = dearer.out
    html = (out / "what-if.html").read_text()
    assert "src=" not in html and "http://www.w3.org/2000/svg" in html
    sections = re.findall(r"<section>(.*?)</section>", html, re.DOTALL)
    assert len(sections) >= 6
    for section in sections:
        name = re.search(r'<p class="source">(.*?)</p>', section)
        assert name is not None
        frame = pl.read_parquet(out / name[1])
        known = {f"{value:,.2f}" for column in frame.select(pl.col(pl.Decimal)) for value in column}
        rows = re.findall(r"<tr>(.*?)</tr>", section.partition("<tbody>")[2], re.DOTALL)
        for row in rows:
            amounts = [cell for cell in re.findall(r'class="number">([^<]*)<', row) if "." in cell]
            before_after = amounts[:2] if len(amounts) > 2 else []
            assert set(before_after) <= known, (name[1], row)
    assert (out / "what-if.pdf").read_bytes().startswith(b"%PDF")


def test_two_paths_are_drawn_as_a_line_for_each_value_of_the_second(
    home: Path, candidate: Path, tmp_path: Path
) -> None:
    given = ("packages.starter.price.monthly=89..99/10", "packages.silver.price.monthly=150..151/1")
    found = what_if(home, candidate, "--vary", given[0], "--vary", given[1], since="2026-04")
    assert len(found["points"]) == 4
    chart = (tmp_path / "out" / "what-if.html").read_text().partition("<svg")[2].partition("</svg>")[0]
    assert chart.count("<polyline") == 2
    assert ">at 150<" in chart and ">at 151<" in chart


@pytest.fixture(scope="module")
def answers(home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Answer, dict[str, bytes]]]:
    """An answer, one along a price, and the first one again, with the files of their one folder after each."""
    folder = tmp_path_factory.mktemp("answers")
    path = folder / "candidate.yaml"
    path.write_text((home / "landing" / "catalogue.yaml").read_text())
    change(path, ('monthly: "99.00"', 'monthly: "119.00"'))
    found = []
    with mock.patch("billing.reports.what_if.writing.draw_page", blank_page):
        for options in ((), ("--vary", "packages.starter.price.monthly=99..99/1"), ()):
            answer = what_if(home, path, *options, since="2025-11", through="2026-01")
            found.append((answer, {each.name: each.read_bytes() for each in (folder / "out").iterdir()}))
    return found


def test_months_before_anybody_subscribed_have_nothing(answers: list[tuple[Answer, dict[str, bytes]]]) -> None:
    found, _ = answers[0]
    assert [row["month"] for row in found["months"]] == ["2026-01"]
    assert accounts(found)["small"] == ("99.00", "119.00", "fee")


def test_tables_of_an_earlier_answer_do_not_stay(answers: list[tuple[Answer, dict[str, bytes]]]) -> None:
    first, along, again = (sorted(name for name in files if name.endswith(".parquet")) for _, files in answers)
    assert "accounts.parquet" in first
    assert along == ["grid.parquet"]
    assert "grid.parquet" not in again


def test_equal_answers_are_equal_bytes(answers: list[tuple[Answer, dict[str, bytes]]]) -> None:
    first, _, again = answers
    assert first == again


@pytest.mark.parametrize(
    ("changes", "arguments", "told"),
    [
        ([("currency: USD", "currency: EUR")], (), "currency: found EUR, expected USD, as in the catalogue in force"),
        ([("time_zone: UTC", "time_zone: Europe/Berlin")], (), "time_zone: found Europe/Berlin, expected UTC"),
        ([], ("--vary", "packages.starter.price.weekly=1..2/1"), "has no weekly: expected one of monthly, yearly"),
        ([], ("--vary", "packages.bronze.price.monthly=1..2/1"), "expected one of starter, silver"),
        ([], ("--vary", "packages.starter.price=1..2/1"), "expected a path to a number"),
        ([], ("--vary", "price"), "expected a path, from, to and step"),
        ([], ("--account", "nobody"), "unknown account: found 'nobody'"),
        ([], ("--only", "bronze"), "unknown package: found 'bronze'"),
        ([], ("--through", "2026-05"), "it has not come yet"),
        ([], ("--through", "2026-01"), "expected 2026-02 (--from) or later"),
        ([], ("--elasticity", "-1"), "expected --vary beside it"),
        ([], ("--name", "../other"), "name: found '../other', expected a plain name"),
        ([], ("--name", ".."), "name: found '..', expected a plain name"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    home: Path, candidate: Path, changes: list[tuple[str, str]], arguments: tuple[str, ...], told: str
) -> None:
    change(candidate, *changes)
    given = ["--from", "2026-02", "--through", "2026-02", *arguments, "--as-of", "2026-04-15", "--home", home]
    ended = overage("what-if", candidate, *given, "--out", candidate.parent / "out")
    assert ended.status == 2
    assert told in ended.messages
    assert not (candidate.parent / "out").exists()


def test_a_folder_in_the_home_is_refused(home: Path, candidate: Path) -> None:
    given = ["--from", "2026-02", "--through", "2026-02", "--home", home, "--out", home / "answers"]
    ended = overage("what-if", candidate, *given)
    assert ended.status == 2
    assert "a home is not touched" in ended.messages
    # The folder of one of several candidates is the home.
    other = candidate.parent / f"{home.name}.yaml"
    other.write_text(candidate.read_text())
    ended = overage("what-if", candidate, other, *given[:-1], home.parent)
    assert ended.status == 2
    assert f"{home}, a folder in the home" in ended.messages


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_computed(home: Path, candidate: Path) -> None:
    (candidate.parent / "file").touch()
    given = ["--from", "2026-02", "--through", "2026-02", "--home", home, "--out", candidate.parent / "file" / "out"]
    ended = overage("what-if", candidate, *given)
    assert ended.status == 2
    assert "expected a folder that can be made and written to" in ended.messages


def test_the_example_of_the_page_runs(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").symlink_to(home)
    (tmp_path / "candidate.yaml").write_text((home / "landing" / "catalogue.yaml").read_text())
    change(tmp_path / "candidate.yaml", ('monthly: "99.00"', 'monthly: "119.00"'))
    page = (ROOT / "docs" / "what-if.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(example, {"__name__": "__main__"})  # noqa: S102  # as a reader would
    told = capsys.readouterr().out
    assert "mails" in told and "fee" in told
