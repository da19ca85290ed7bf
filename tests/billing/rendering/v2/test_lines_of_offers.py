"""Lines of add-ons and minimum spends on the page and in e-invoices: titles and arithmetic (rules 31, 32)."""

from decimal import Decimal, localcontext

import pytest

from billing.einvoices.lines import Amounts, read_lines
from billing.rendering.content import Fields
from billing.rendering.locale_formats import EXACT
from billing.rendering.v2.formats import SPACE, Formats
from billing.rendering.v2.lines import line_of
from billing.rendering.words import LANGUAGES, words
from tests.rich_documents import Content, invoice, line

ADD_ON: Content = {
    **{"kind": "add_on", "add_on": "emails", "title": "More emails", "metric": None, "metric_title": None},
    **{"quantity": "2", "billed_units": "2", "unit_price": "30", "amount": "60.00", "allowance": None, "excess": None},
    **{"tariff": None, "description": "2 More emails, monthly fee"},
}
MINIMUM: Content = {
    **{"kind": "minimum_spend", "metric": None, "metric_title": None, "quantity": None, "unit_price": None},
    **{"billed_units": None, "allowance": None, "excess": None, "tariff": None, "amount": "62.00"},
    "description": "Minimum spend of Gold",
}


def share(fee: str, part: str, parts: str, replaced: str | None = None) -> Content:
    return {"part": {"fee": fee, "replaced": replaced, "part": part, "parts": parts}}


def said(language: str = "en", **changes: object) -> tuple[str, list[str]]:
    """Title and details of a line, without its cycle."""
    content: Content = line(invoice(language), 0, **{**changes, "cycle_start": None, "cycle_end": None})
    with localcontext(EXACT):
        out = Formats(language, language, "USD", 2)
        term = "yearly" if "yearly" in content["description"] else "monthly"
        found = line_of(Fields(content), words(language), out, 1, term)
    title, details = found["title"], found["details"]
    assert isinstance(title, str)
    assert isinstance(details, list)
    return title, [detail.replace(SPACE, " ") for detail in details]


def test_an_add_on_says_what_it_is_and_how_many_at_which_price() -> None:
    assert said(**ADD_ON) == ("More emails, monthly fee", ["Gold", "2 \N{MULTIPLICATION SIGN} 30.00"])


def test_a_part_of_a_month_and_of_a_year_are_told_apart() -> None:
    assert said(**ADD_ON, **share("60.00", "22", "31"))[1] == [
        "Gold",
        "2 \N{MULTIPLICATION SIGN} 30.00",
        "60.00 \N{MULTIPLICATION SIGN} 22 of 31 days",
    ]
    yearly = {**ADD_ON, "description": "1 More emails, yearly fee"}
    assert said(**yearly, **share("300.00", "8", "12")) == (
        "More emails, yearly fee",
        ["Gold", "2 \N{MULTIPLICATION SIGN} 30.00", "300.00 \N{MULTIPLICATION SIGN} 8 of 12 cycles"],
    )


def test_a_minimum_says_what_is_due_and_what_was_missing() -> None:
    whole = said(**MINIMUM, **share("200.00", "31", "31", "138.00"))
    assert whole == ("Minimum spend of Gold", ["200.00 \N{MINUS SIGN} 138.00"])
    cut = said(**MINIMUM, **share("200.00", "16", "31", "99.00"))
    assert cut == ("Minimum spend of Gold", ["200.00 \N{MULTIPLICATION SIGN} 16 of 31 days \N{MINUS SIGN} 99.00"])


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({"kind": "prior_cycle", "due_kind": "add_on"}, "More emails, package fee"),
        ({"kind": "refund", "due_kind": "add_on"}, "Refund of the fee for More emails"),
        ({"kind": "adjustment", "due_kind": "add_on"}, "Correction of the fee for More emails"),
    ],
)
def test_what_settles_an_add_on_names_it(changes: dict[str, str], title: str) -> None:
    assert said(**{**ADD_ON, **changes})[0] == title


def test_what_settles_a_minimum_names_it() -> None:
    assert said(**{**MINIMUM, "kind": "prior_cycle", "due_kind": "minimum_spend"})[0] == "Minimum spend of Gold"
    corrected = said(**{**MINIMUM, "kind": "adjustment", "due_kind": "minimum_spend"})[0]
    assert corrected == "Correction of the minimum spend of Gold"


@pytest.mark.parametrize("language", [each for each in LANGUAGES if each != "en"])
def test_every_language_has_its_own_words(language: str) -> None:
    english, own = said(**MINIMUM)[0], said(language, **MINIMUM)[0]
    assert own != english
    assert "Gold" in own
    assert said(language, **ADD_ON)[0] != said(**ADD_ON)[0]


def test_in_an_e_invoice_an_add_on_is_its_quantity_at_its_price() -> None:
    whole = line(invoice("de"), 0, **ADD_ON)
    part = line(invoice("de"), 0, **{**ADD_ON, "amount": "42.58"})
    (one, other), _ = read_lines([whole, part], Amounts(is_turned=False))
    assert (one.name, one.quantity, one.price) == ("More emails", Decimal(2), Decimal(30))
    assert (other.quantity, other.price) == (Decimal(1), Decimal("42.58"))


SEATS_ADDED: Content = {
    **{"kind": "proration", "quantity": "3", "billed_units": "3", "unit_price": "12", "amount": "30.19"},
    **{"allowance": None, "excess": None, "tariff": None, "description": "Users added within the cycle"},
}


def test_seats_that_were_added_say_the_part_of_the_cycle_and_fill_no_columns() -> None:
    assert said(**SEATS_ADDED, **share("36.00", "26", "31"))[1][-1] == "36.00 \N{MULTIPLICATION SIGN} 26 of 31 days"
    with localcontext(EXACT):
        row = Fields(line(invoice("en"), 0, **SEATS_ADDED))
        found = line_of(row, words("en"), Formats("en", "en", "USD", 2), 1)
    assert {found[name] for name in ("quantity", "allowance", "excess", "charged", "price")} == {""}
    assert not found["measured"]


def test_a_charge_names_no_package() -> None:
    charge = {**ADD_ON, "kind": "charge", "add_on": None, "title": None, "charge_id": "c1", "description": "Set-up"}
    assert said(**charge) == ("Set-up", ["2 \N{MULTIPLICATION SIGN} 30.00"])
