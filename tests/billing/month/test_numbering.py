"""A business goes on with its own numbers: gap-free, and never two of one kind (rules 19 and 38)."""

from datetime import date
from pathlib import Path

import pytest

from billing.inputs.catalogue_file import load_catalogue
from billing.model.errors import RefusedError
from billing.month.business import Business
from billing.reports.check import problems_of
from tests.billing.month.test_moving_in import catalogue
from tests.by_steps import bill_by_steps, rows
from tests.landing import Landing


def write(landing: Landing, numbering: str) -> None:
    (landing.folder / "catalogue.yaml").write_text(f"{catalogue('2026-11-01')}\nnumbering: {numbering}\n")


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    landing = Landing(tmp_path / "home", catalogue=catalogue("2026-11-01"))
    for name in ("acme", "beta"):
        landing.customer(name, on="2026-11-10")
    return landing


def numbers(business: Business, kind: str = "invoice") -> list[str]:
    found = rows(business, "documents", "issued_on", "number", kind=kind)
    return [number for _, number in sorted(found)]


@pytest.mark.parametrize(
    ("numbering", "expected"),
    [
        (
            '{invoice: "{year}/R-{sequence:04}", first: {invoice: 1234}}',
            ["2026/R-1234", "2026/R-1235", "2027/R-0001", "2027/R-0002"],
        ),
        (
            '{invoice: "R{sequence}", first: {invoice: 98}}',
            ["R98", "R99", "R100", "R101"],
        ),
        (
            "{first: {invoice: 41}}",
            ["INV-2026-000041", "INV-2026-000042", "INV-2027-000001", "INV-2027-000002"],
        ),
    ],
)
def test_a_series_begins_where_the_old_system_ended(tmp_path: Path, numbering: str, expected: list[str]) -> None:
    landing = Landing(tmp_path / "home")
    for name in ("acme", "beta"):
        landing.customer(name, on="2026-12-10")
    write(landing, numbering)
    for month, as_of in (("2026-12", "2026-12-31"), ("2027-01", "2027-01-31")):
        business = bill_by_steps(landing.root, month, as_of)
    found = rows(business, "documents", "issued_on", "number")
    assert sorted(number for _, number in found) == sorted(expected)
    assert business.register.number_gaps() == []
    assert business.home.document_file("2026-12", expected[0]).name == f"{expected[0].replace('/', '_')}.pdf"
    assert business.register.missing_guards() == []


def test_another_format_begins_with_a_year_only(landing: Landing) -> None:
    bill_by_steps(landing.root, "2026-11", "2026-11-30")
    write(landing, '{invoice: "R{sequence}", first: {invoice: 7}}')
    with pytest.raises(RefusedError) as refused:
        Business.load(landing.root, date(2026, 12, 31))
    (problem,) = refused.value.problems
    assert (problem.place, problem.found) == ("numbering.invoice", "'R{sequence}'")
    assert "'INV-{year}-{sequence:06}' as before" in problem.expected
    assert any("numbering.invoice" in each for each in problems_of(landing.root))
    # What was issued can be looked at.
    Business.load(landing.root, date(2026, 12, 31), issues=False)
    business = bill_by_steps(landing.root, "2026-12", "2027-01-05")
    assert numbers(business) == ["INV-2026-000001", "INV-2026-000002", "R3", "R4"], "without a year it runs on"
    assert business.register.number_gaps() == []


def test_a_format_of_another_series_cannot_be_taken_over_where_its_numbers_meet(landing: Landing) -> None:
    write(landing, '{invoice: "A{sequence}"}')
    bill_by_steps(landing.root, "2026-11", "2026-11-30")
    write(landing, '{invoice: "B{sequence}", credit_note: "A{sequence}"}')
    landing.request("acme", "refund", "2026-12-05T09:00:00Z", reason="unused")
    with pytest.raises(RefusedError, match="the number A1 was given before under another format"):
        bill_by_steps(landing.root, "2026-11", "2027-01-05")


def test_a_pdf_beyond_the_last_number_stops_an_older_register(landing: Landing) -> None:
    write(landing, '{invoice: "{year}/R-{sequence:04}"}')
    bill_by_steps(landing.root, "2026-11", "2026-11-30")
    folder = landing.root / "documents" / "2026-12"
    folder.mkdir(parents=True)
    for name in ("2026_R-0002.pdf", "INV-2026-notes.pdf"):
        (folder / name).write_text("")
    bill_by_steps(landing.root, "2026-12", "2026-12-05")
    (folder / "2026_R-0003.pdf").write_text("")
    with pytest.raises(RefusedError, match=r"2026_R-0003\.pdf: found the PDF of a document that the register does not"):
        bill_by_steps(landing.root, "2026-12", "2026-12-31")


@pytest.mark.parametrize(
    ("numbering", "place", "expected"),
    [
        ('{invoice: "INV {sequence}"}', "numbering.invoice", "letters, digits and -_./"),
        ('{invoice: "R{sequence}", credit_note: "R{sequence}"}', "numbering.credit_note", "cannot be those of invoice"),
        (
            '{credit_note: "INV_{year}-{sequence:06}", invoice: "INV/{year}-{sequence:06}"}',
            "numbering",
            "cannot be those",
        ),
        ("{first: {invoice: 0}}", "numbering.first.invoice", "a whole number from 1 to"),
        ('{invoices: "R{sequence}"}', "numbering.invoices", "invoice"),
    ],
)
def test_a_format_that_is_none_is_refused(landing: Landing, numbering: str, place: str, expected: str) -> None:
    write(landing, numbering)
    with pytest.raises(RefusedError) as refused:
        load_catalogue(landing.folder / "catalogue.yaml")
    assert any(place in problem.place and expected in problem.expected for problem in refused.value.problems)
