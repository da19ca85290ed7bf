"""Drafts of a month, in ranges."""

from datetime import date

import polars as pl

from billing.documents.drafts import Drafts, with_notes
from billing.model.tables import DRAFT_LINES, DRAFT_TAXES, DRAFTS


def test_notes_stand_where_the_order_of_the_table_has_them_whatever_the_ranges() -> None:
    days = [date(2026, 1, day) for day in (3, 5, 9)]

    def rows(kind: str, *places: tuple[int, str]) -> pl.DataFrame:
        given = {"account_id": [account for _, account in places], "billing_date": [days[day] for day, _ in places]}
        frame = pl.DataFrame(given).with_columns(subscription_id="account_id", kind=pl.lit(kind))
        return DRAFTS.conform(pl.concat([DRAFTS.empty(), frame], how="diagonal"))

    scheduled = rows("invoice", (0, "b"), (0, "d"), (1, "a"), (1, "c"), (2, "b"))
    for places in ([(0, "a")], [(0, "c"), (1, "a"), (1, "b")], [(2, "c"), (2, "d")], []):
        notes = rows("credit_note", *places) if places else DRAFTS.empty()
        for size in (1, 2, 3, 5):
            parts = (Drafts(part, DRAFT_LINES.empty(), DRAFT_TAXES.empty()) for part in scheduled.iter_slices(size))
            merged = with_notes(parts, Drafts(notes, DRAFT_LINES.empty(), DRAFT_TAXES.empty()))
            written = pl.concat(DRAFTS.conform(part.documents) for part in merged)
            assert written.equals(DRAFTS.conform(pl.concat([scheduled, notes])))
