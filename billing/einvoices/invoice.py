"""A document as EN 16931 knows it: its business terms (BT) and groups (BG), before they are written as XML."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from billing.model.seller import Identifier


class InexpressibleError(ValueError):
    """The format cannot say what a document says."""


@dataclass(frozen=True)
class Party:
    """Seller (BG-4) or buyer (BG-7); texts are empty where nothing is known.

    Attributes
    ----------
    lines
        Lines of the address: BT-35, 36, 162, of the buyer BT-50, 51, 163.
    vat_id, tax_number
        BT-31 or 48, and BT-32.
    contact
        Name, phone, mail (BT-41 to 43).
    """

    name: str
    lines: tuple[str, ...]
    city: str
    postal_code: str
    region: str
    country: str
    registration: Identifier | None
    electronic_address: Identifier | None
    vat_id: str = ""
    tax_number: str = ""
    contact: tuple[str, str, str] = ("", "", "")
    identifier: str = ""


@dataclass(frozen=True)
class Payment:
    """Means of payment (BG-16): code of UNCL 4461 and the account of a transfer (BG-17)."""

    code: str
    iban: str
    bic: str
    holder: str


@dataclass(frozen=True)
class Reduction:
    """An allowance, or a charge where the amount is below 0, on a line (BG-27, 28) or a document (BG-20, 21)."""

    amount: Decimal
    reason: str
    category: str
    rate: Decimal | None

    @property
    def is_charge(self) -> bool:
        """Whether it adds to what is due."""
        return self.amount < 0


@dataclass(frozen=True)
class Line:
    """A line (BG-25): quantity x price / base, less its allowances, is the amount.

    Attributes
    ----------
    start, end
        First and last day (BT-134, BT-135).
    """

    id: str
    name: str
    description: str
    quantity: Decimal
    unit: str
    price: Decimal
    base: Decimal
    amount: Decimal
    category: str
    rate: Decimal | None
    start: date | None
    end: date | None
    reductions: tuple[Reduction, ...] = ()


@dataclass(frozen=True)
class Tax:
    """The VAT of a category and rate (BG-23); the rate in percent, None of category O."""

    category: str
    rate: Decimal | None
    taxable: Decimal
    amount: Decimal
    reason: str
    code: str


@dataclass(frozen=True)
class Note:
    """A note (BG-1), with the code of its subject where a country asks for one (BT-21)."""

    text: str
    subject: str = ""


@dataclass(frozen=True)
class Invoice:
    """A document to write; amounts of credit notes are positive.

    Attributes
    ----------
    type_code
        380, 381, 383 (BT-3).
    tax_currency
        Currency and tax amount (BT-6, BT-111), where the tax's country has another currency.
    preceding
        Numbers, and days where they are stored, of documents that are corrected or given back (BG-3).
    start, end
        First and last day of its lines (BG-14).
    """

    number: str
    issued_on: date
    due_on: date | None
    type_code: str
    currency: str
    minor_units: int
    tax_currency: tuple[str, Decimal] | None
    process: str
    customization: str
    buyer_reference: str
    order_reference: str
    preceding: tuple[tuple[str, date | None], ...]
    notes: tuple[Note, ...]
    seller: Party
    buyer: Party
    payment: Payment | None
    lines: tuple[Line, ...]
    reductions: tuple[Reduction, ...]
    taxes: tuple[Tax, ...]
    line_total: Decimal
    net: Decimal
    tax: Decimal
    total: Decimal
    prepaid: Decimal
    payable: Decimal
    start: date | None
    end: date | None

    @property
    def is_credit_note(self) -> bool:
        return self.type_code == "381"

    @property
    def allowances(self) -> Decimal:
        """The sum of the document's allowances (BT-107)."""
        return sum((each.amount for each in self.reductions if not each.is_charge), Decimal(0))

    @property
    def charges(self) -> Decimal:
        """The sum of the document's charges (BT-108)."""
        return -sum((each.amount for each in self.reductions if each.is_charge), Decimal(0))

    @property
    def delivered_to(self) -> str:
        """The country that is delivered to (BT-80), where the category of a tax depends on it."""
        return self.buyer.country if any(tax.category == "K" for tax in self.taxes) else ""
