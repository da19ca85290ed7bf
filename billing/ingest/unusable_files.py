"""Files in landing/usage that contribute nothing to billing; every run lists them (rule 22)."""

from typing import Final

import polars as pl

from billing.ingest.landing import EXPECTED_DAYS, Landing
from billing.ingest.state import FileState, read_state
from billing.model.tables import REJECTS
from billing.store.frames import read_frame
from billing.store.home import Home

STRAY: Final = f"found in place of a delivery day, expected {EXPECTED_DAYS}"


def unusable_deliveries(home: Home, landing: Landing) -> list[str]:
    """Messages for stray paths, unreadable files, and files of which every row is rejected.

    By rule 22 a file whose rows are all rejected is reported like an unreadable one. An empty file, a file of
    duplicates only, and a file that has vanished since are not.
    """
    state = read_state(home)
    delivered = {(file.day, file.name) for file in landing.files}
    found = [f"usage/{path}: {STRAY}" for path in landing.strays]
    for day, ingested in sorted(state.days.items()) if state else ():
        files = {
            name: file
            for name, file in sorted(ingested.files.items())
            if (file.unreadable or _all_rejected(file)) and (day, name) in delivered
        }
        reasons = _reasons(read_frame(home.delivery(REJECTS, day), REJECTS)) if files else {}
        for name, file in files.items():
            words = f" could not be read: {file.unreadable}"
            if not file.unreadable:
                words = f": none of its rows counts: {reasons.get(name, 'see show rejects')}"
            found.append(f"usage/{day}/{name}{words}")
    return found


def _all_rejected(file: FileState) -> bool:
    return file.rows > 0 and file.rejected == file.rows


def _reasons(rejects: pl.DataFrame) -> dict[str, str]:
    """By file: the number of rejected rows per reason, in words, the most frequent first."""
    words = (
        rejects.group_by("file", "reason")
        .agg(rows=pl.len())
        .sort(["file", "rows", "reason"], descending=[False, True, False])
        .group_by("file", maintain_order=True)
        .agg(pl.format("{} {}", "reason", "rows").str.join(", "))
    )
    return dict(words.iter_rows())
