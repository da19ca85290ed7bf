"""Issued documents written again as e-invoices, beside what was issued: `overage export-documents` (rule 40)."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from billing.einvoices import InexpressibleError, InvoiceFormat, write_xml
from billing.einvoices.invoice import Invoice
from billing.einvoices.lacking import lacking
from billing.einvoices.reading import read_invoice
from billing.model.errors import RefusedError
from billing.model.numbering import file_name
from billing.month.business import Business
from billing.rendering.errors import RenderingError
from billing.rendering.files import draw_with_fallback, resources_of
from billing.store.files import write_bytes
from billing.store.home import EXPORTS

Content = Mapping[str, Any]
_AT_ONCE: Final = 500


@dataclass(frozen=True)
class Exported:
    """The files that were written, and by number why a document was not."""

    files: Sequence[Path]
    not_written: Sequence[tuple[str, str]]


def export_documents(
    business: Business, month: str, chosen: InvoiceFormat, *, accounts: Sequence[str] = (), out: Path | None = None
) -> Exported:
    """Write the month's documents in a format, into documents/<month>/export/ or `out`; the register is not changed.

    Parameters
    ----------
    accounts
        Of these accounts only; none means all.

    Raises
    ------
    RefusedError
        When nothing was issued in the month, or an account is unknown.
    """
    documents = business.register.documents([month])
    if documents.is_empty():
        raise RefusedError(f"unknown month: found {month}, of which nothing was issued, expected an issued month")
    for account in accounts:
        if not business.knows(account):
            raise RefusedError(f"unknown account: found {account}, expected an account_id of the accounts file")
    if accounts:
        documents = documents.filter(pl.col("account_id").is_in(accounts))
    folder = out or business.home.documents / month / EXPORTS
    written: list[Path] = []
    refused: list[tuple[str, str]] = []
    numbers = documents["number"].to_list()
    for start in range(0, len(numbers), _AT_ONCE):
        texts = business.register.contents(numbers[start : start + _AT_ONCE])
        contents = {number: json.loads(text) for number, text in texts}
        lacks = _lacking(contents, chosen)
        for number, content in contents.items():
            try:
                name, data = _written(business, number, content, chosen, lacks.get(number, ()))
            except (InexpressibleError, RenderingError) as error:
                refused.append((number, str(error)))
                continue
            path = folder / name
            write_bytes(path, data)
            written.append(path)
    return Exported(written, refused)


def _lacking(contents: Mapping[str, Content], chosen: InvoiceFormat) -> dict[str, tuple[str, ...]]:
    """By number what documents lack for the format; without those that it cannot say."""
    invoices: dict[str, Invoice] = {}
    for number, content in contents.items():
        with suppress(InexpressibleError):
            invoices[number] = read_invoice(content, chosen)
    return dict(zip(invoices, lacking([(each, chosen) for each in invoices.values()]), strict=True))


def _written(
    business: Business, number: str, content: Content, chosen: InvoiceFormat, lacks: Sequence[str]
) -> tuple[str, bytes]:
    if lacks:
        raise InexpressibleError(f"it was issued without {', '.join(lacks)}")
    xml = write_xml(content, chosen)
    if chosen is not InvoiceFormat.FACTURX:
        return f"{file_name(number)}.xml", xml
    drawn, _ = draw_with_fallback(content, None, resources_of(content, business.home.resources), xml)
    return f"{file_name(number)}.pdf", drawn.pdf
