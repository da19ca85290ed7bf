"""Draw the PDFs of issued documents, and write the e-invoices in or beside them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from typing import Final

import polars as pl

from billing.model.numbering import file_name
from billing.month.business import Business
from billing.month.invoice_files import InvoiceFiles
from billing.register.register import Register
from billing.rendering import Job, RenderedFile, Undrawn, drawing_libraries, render_files
from billing.store.files import folders_synced_once
from billing.store.home import Home

DOCUMENTS_OF_A_BLOCK: Final = 500
_RECORDED_TOGETHER: Final = 500


@dataclass(frozen=True)
class Rendered:
    """Rendered PDFs, and the documents that failed.

    Attributes
    ----------
    redrawn
        Numbers of PDFs whose bytes differ from those issued; the register records both.
    """

    files: Sequence[RenderedFile]
    undrawn: Sequence[Undrawn]
    redrawn: Sequence[str]


def documents_to_render(business: Business, month: str) -> list[str]:
    """The numbers of the month's documents whose PDF or e-invoice is missing or not recorded; sorted.

    Render an unrecorded PDF again: a killed run left it, or it is not what was issued.
    """
    return _without_file(business.home, business.register, month, business.register.filed(month))


def _without_file(home: Home, register: Register, month: str, filed: Mapping[str, str | None]) -> list[str]:
    drawn, written = ({path.stem for path in (home.documents / month).glob(f"*.{kind}")} for kind in ("pdf", "xml"))
    # The e-invoice is recorded before the PDF: a document whose PDF is recorded has all of its files recorded.
    lost = {number for number in register.invoice_files(month) if file_name(number) not in written}
    return [
        number for number, sha256 in filed.items() if sha256 is None or file_name(number) not in drawn or number in lost
    ]


def render_blocks(home: Home, register: Register, month: str) -> list[int]:
    """The blocks of the month's documents, in the order of their numbers, in which a PDF is missing or not recorded."""
    filed = register.filed(month)
    missing = set(_without_file(home, register, month, filed))
    return sorted({place // DOCUMENTS_OF_A_BLOCK for place, number in enumerate(filed) if number in missing})


def render_block(home: Home, register: Register, month: str, block: int, as_of: date) -> Rendered:
    """As `render_documents`, of one of `render_blocks`: another worker may draw another one at the same time."""
    numbers = list(register.filed(month))[block * DOCUMENTS_OF_A_BLOCK : (block + 1) * DOCUMENTS_OF_A_BLOCK]
    return _render(home, register, month, as_of, among=frozenset(numbers))


def render_documents(
    business: Business, month: str, workers: int = 2, progress: Callable[[int, int], None] | None = None
) -> Rendered:
    """Render the PDF of every document of the month that has none yet, from stored content only (rule 19).

    Report a document that cannot be rendered, and render the others. With another version of a rendering library a
    file may have other bytes: the register records that.
    """
    return _render(business.home, business.register, month, business.as_of, workers=workers, progress=progress)


def _render(
    home: Home,
    register: Register,
    month: str,
    as_of: date,
    *,
    among: frozenset[str] | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Rendered:
    known = register.filed(month)
    missing = [number for number in _without_file(home, register, month, known) if among is None or number in among]
    numbers = {file_name(number): number for number in missing}
    invoices = InvoiceFiles(home, register, month, as_of)
    jobs = (
        Job(content, home.document_file(month, number), known[number], home.resources, xml)
        for number, content in register.contents(missing)
        for xml in invoices.write(number, content)
    )
    rendered: list[RenderedFile] = []
    undrawn: list[Undrawn] = []
    unrecorded: list[dict[str, object]] = []
    # Files are recorded after their folder is synced: of few of them once.
    with folders_synced_once() if len(missing) < _RECORDED_TOGETHER else nullcontext():
        for file in render_files(jobs, workers=workers):
            if isinstance(file, Undrawn):
                undrawn.append(file)
                continue
            number = numbers[file.path.stem]
            if known[number] is None:
                unrecorded.append({"number": number, "sha256": file.sha256, "bytes": file.bytes})
            rendered.append(file)
            if progress is not None:
                progress(len(rendered), len(missing))
            if len(unrecorded) == _RECORDED_TOGETHER:
                invoices.record()
                register.record_files(unrecorded)
                unrecorded = []
    invoices.record()
    register.record_files(unrecorded)
    drawn = [(numbers[file.path.stem], file) for file in rendered]
    other = [(number, file) for number, file in drawn if known[number] not in (None, file.sha256)]
    if other:
        rows = [(number, file.sha256, known[number], file.bytes) for number, file in other]
        names = ["number", "redrawn_sha256", "sha256", "bytes"]
        files = pl.DataFrame(rows, schema=names, orient="row").with_columns(
            redrawn_on=pl.lit(as_of), drawn_with=pl.lit(drawing_libraries())
        )
        register.record_redrawn_files(files)
    redrawn = sorted({*(number for number, _ in other), *invoices.rewritten})
    return Rendered(rendered, [*undrawn, *invoices.failed], redrawn)
