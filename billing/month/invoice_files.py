"""E-invoices of issued documents: files beside their PDFs, or in them (rules 19 and 40)."""

import hashlib
import json
from collections.abc import Iterator
from datetime import date
from typing import Final

import polars as pl

from billing.einvoices import InexpressibleError, InvoiceFormat, format_of, write_xml
from billing.einvoices.formats import XML_FILES
from billing.register.register import Register
from billing.rendering import Undrawn
from billing.store.files import file_hash, write_bytes
from billing.store.home import Home

_PDF: Final = f'"format":"{InvoiceFormat.PDF}"'


class InvoiceFiles:
    """Writes the e-invoices of a month's documents from their stored content.

    Attributes
    ----------
    failed
        Documents that cannot be written.
    rewritten
        Numbers of e-invoices that were written again with other bytes than those issued; the register records both.
    """

    def __init__(self, home: Home, register: Register, month: str, as_of: date) -> None:
        self._home, self._register, self._month, self._as_of = home, register, month, as_of
        self._known = register.invoice_files(month)
        self._unrecorded: list[dict[str, object]] = []
        self.failed: list[Undrawn] = []
        self.rewritten: list[str] = []

    def write(self, number: str, text: str) -> Iterator[bytes | None]:
        """Write the e-invoice beside a document's PDF; yield that which goes into the PDF, or None.

        Nothing is yielded for a document that cannot be written: it is in `failed`.
        """
        # Contents of earlier versions have no format.
        if _PDF in text or '"format":' not in text:
            yield None
            return
        content = json.loads(text)
        chosen = format_of(content)
        try:
            xml = None if chosen is InvoiceFormat.PDF else write_xml(content, chosen)
        except InexpressibleError as error:
            path = self._home.document_file(self._month, number)
            self.failed.append(Undrawn(path, number, f"it cannot be written as {chosen}: {error}"))
            return
        if xml is not None and chosen in XML_FILES:
            self._put(number, xml)
            xml = None
        yield xml

    def record(self) -> None:
        """Record what was written: call it before the PDFs are recorded."""
        self._register.record_invoice_files(self._unrecorded)
        self._unrecorded = []

    def _put(self, number: str, xml: bytes) -> None:
        path, sha256 = self._home.invoice_file(self._month, number), hashlib.sha256(xml).hexdigest()
        known = self._known.get(number)
        # rule 19: the original is kept while it exists
        if known is not None and path.exists() and file_hash(path) == known:
            return
        write_bytes(path, xml)
        if known is None:
            self._unrecorded.append({"number": number, "sha256": sha256, "bytes": len(xml)})
        elif known != sha256:
            self.rewritten.append(number)
            self._register.record_redrawn_files(
                pl.DataFrame(
                    {
                        "number": [number],
                        "redrawn_sha256": [sha256],
                        "sha256": [known],
                        "bytes": [len(xml)],
                        "redrawn_on": [self._as_of],
                        "drawn_with": ["e-invoice"],
                    }
                )
            )
