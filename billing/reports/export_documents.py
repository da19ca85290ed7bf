"""Issued documents written again as e-invoices, beside what was issued: `overage export-documents` (rule 40)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from billing.einvoices import InexpressibleError, InvoiceFormat, write_xml
from billing.einvoices.lacking import lacking
from billing.einvoices.reading import read_invoice
from billing.model.errors import RefusedError
from billing.model.numbering import file_name
from billing.month.business import Business
from billing.rendering.errors import RenderingError
from billing.rendering.files import draw_with_fallback, resources_of
from billing.store.files import write_bytes
from billing.store.home import EXPORTS


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
    for number, text in business.register.contents(documents["number"].to_list()):
        try:
            name, content = _written(business, number, text, chosen)
        except (InexpressibleError, RenderingError) as error:
            refused.append((number, str(error)))
            continue
        path = folder / name
        write_bytes(path, content)
        written.append(path)
    return Exported(written, refused)


def _written(business: Business, number: str, text: str, chosen: InvoiceFormat) -> tuple[str, bytes]:
    content = json.loads(text)
    (missing,) = lacking([(read_invoice(content, chosen), chosen)])
    if missing:
        raise InexpressibleError(f"it was issued without {', '.join(missing)}")
    xml = write_xml(content, chosen)
    if chosen is not InvoiceFormat.FACTURX:
        return f"{file_name(number)}.xml", xml
    drawn, _ = draw_with_fallback(content, None, resources_of(content, business.home.resources), xml)
    return f"{file_name(number)}.pdf", drawn.pdf
