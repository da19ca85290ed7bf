"""Write the answer of a what-if: tables as Parquet, a page and a PDF; equal answers give equal bytes."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from billing.model.catalogue import Catalogue
from billing.model.numbering import file_name
from billing.rendering import draw_page
from billing.reports.what_if.break_even import Grid
from billing.reports.what_if.comparison import Comparison
from billing.reports.what_if.page import what_if_page
from billing.store.files import write_bytes

PAGE: Final = "what-if.html"
PDF: Final = "what-if.pdf"


def write_what_if(catalogue: Catalogue, compared: Sequence[Comparison], grid: Grid | None, folder: Path) -> Path:
    """Write everything into a folder and return the page: the tables of each of several candidates in one of its own.

    Parameters
    ----------
    catalogue
        That in force.
    """
    folders = [folder if len(compared) == 1 else folder / file_name(found.name) for found in compared]
    if grid is None:
        for found, own in zip(compared, folders, strict=True):
            for name, frame in found.tables.items():
                _write(own / f"{name}.parquet", frame)
    else:
        _write(folder / "grid.parquet", grid.points)
    names = ["" if own == folder else f"{own.name}/" for own in folders]
    paper = what_if_page(catalogue, compared, grid, names, on_paper=True)
    write_bytes(folder / PDF, draw_page(paper, "month_report_print.css"))
    write_bytes(folder / PAGE, what_if_page(catalogue, compared, grid, names).encode())
    return folder / PAGE


def _write(path: Path, frame: pl.DataFrame) -> None:
    content = io.BytesIO()
    frame.write_parquet(content)
    write_bytes(path, content.getvalue())
