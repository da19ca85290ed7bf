"""Write the answer of a what-if: tables as Parquet, a page and a PDF; equal answers give equal bytes."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from billing.model.catalogue import Catalogue
from billing.model.errors import RefusedError
from billing.rendering import draw_page
from billing.reports.what_if.break_even import Grid
from billing.reports.what_if.comparison import Comparison
from billing.reports.what_if.page import what_if_page
from billing.store.files import write_bytes

PAGE: Final = "what-if.html"
PDF: Final = "what-if.pdf"
_GRID: Final = "grid"


def refuse_name(name: str) -> None:
    """Refuse a name of an answer that cannot be that of a folder."""
    if name in ("", ".", "..") or "/" in name or not name.isprintable():
        raise RefusedError(f"name: found {name!r}, expected a plain name: it is that of a folder")


def refuse_folder(folder: Path, names: Sequence[str], home: Path) -> None:
    """Refuse a folder that cannot be written to, or is in the home, and names that lead out of it.

    Parameters
    ----------
    names
        Of the candidates: each of several has a folder of its own.
    """
    for name in names:
        refuse_name(name)
    for own in (folder, *_folders(folder, names)):
        if own.resolve().is_relative_to(home.resolve()):
            raise RefusedError(
                f"out: found {own}, a folder in the home, expected one outside it: a home is not touched"
            )
        held = next(each for each in (own.absolute(), *own.absolute().parents) if os.path.lexists(each))
        if not held.is_dir() or not os.access(held, os.W_OK | os.X_OK):
            raise RefusedError(f"out: found {own}, expected a folder that can be made and written to: {held}")


def _folders(folder: Path, names: Sequence[str]) -> list[Path]:
    """The folder of the tables of each candidate."""
    return [folder] if len(names) == 1 else [folder / name for name in names]


def write_what_if(catalogue: Catalogue, compared: Sequence[Comparison], grid: Grid | None, folder: Path) -> Path:
    """Write everything into a folder and return the page: the tables of each of several candidates in one of its own.

    Parameters
    ----------
    catalogue
        That in force.
    """
    folders = _folders(folder, [found.name for found in compared]) if grid is None else [folder] * len(compared)
    written = {} if grid is None else {folder / f"{_GRID}.parquet": grid.points}
    if grid is None:
        for found, own in zip(compared, folders, strict=True):
            written |= {own / f"{name}.parquet": frame for name, frame in found.tables.items()}
    # Tables of an earlier answer in the same folder would be taken for those of this one.
    for name in (_GRID, *compared[0].tables):
        for own in {folder, *folders}:
            if (path := own / f"{name}.parquet") not in written:
                path.unlink(missing_ok=True)
    for path, frame in written.items():
        _write(path, frame)
    names = ["" if own == folder else f"{own.name}/" for own in folders]
    paper = what_if_page(catalogue, compared, grid, names, on_paper=True)
    write_bytes(folder / PDF, draw_page(paper, "month_report_print.css"))
    write_bytes(folder / PAGE, what_if_page(catalogue, compared, grid, names).encode())
    return folder / PAGE


def _write(path: Path, frame: pl.DataFrame) -> None:
    content = io.BytesIO()
    frame.write_parquet(content)
    write_bytes(path, content.getvalue())
