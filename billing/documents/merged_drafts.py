"""Drafts of several currencies as those of one month, in the order of the table (rules 19 and 36)."""

from collections.abc import Iterator, Sequence

import polars as pl

from billing.documents.drafts import Drafts, joined_drafts
from billing.model.tables import DRAFT_LINES, DRAFT_TAXES, DRAFTS


def in_key_order(parts: Sequence[Drafts]) -> Drafts:
    """Drafts of several currencies as one, each table in its order."""
    if len(parts) == 1:
        return parts[0]
    whole = joined_drafts(parts)
    return Drafts(DRAFTS.conform(whole.documents), DRAFT_LINES.conform(whole.lines), DRAFT_TAXES.conform(whole.taxes))


def merged_drafts(streams: Sequence[Iterator[Drafts]]) -> Iterator[Drafts]:
    """The drafts of several currencies, each in key order, as batches in the order of the table."""
    if len(streams) == 1:
        yield from streams[0]
        return
    key = list(DRAFTS.key)
    waiting = [DRAFTS.empty() for _ in streams]
    open_ = list(range(len(streams)))
    while open_:
        lines, taxes = [DRAFT_LINES.empty()], [DRAFT_TAXES.empty()]
        for place in list(open_):
            while waiting[place].is_empty() and place in open_:
                batch = next(streams[place], None)
                if batch is None:
                    open_.remove(place)
                else:
                    waiting[place] = batch.documents
                    lines.append(batch.lines)
                    taxes.append(batch.taxes)
        # What comes next of a stream is behind all that it has told.
        ends = pl.concat([DRAFTS.empty().select(key), *(waiting[place].select(key).tail(1) for place in open_)])
        ready = pl.concat(waiting).sort(key)
        if open_:
            bound = ends.sort(key).head(1).with_columns(is_bound=pl.lit(value=True))
            order = pl.concat([ready.select(key).with_columns(is_bound=pl.lit(value=False)), bound])
            until = order.with_row_index("_row").sort(*key, "is_bound")["is_bound"].arg_max() or 0
            ready = ready.head(until)
        waiting = [
            each.join(ready.select(key), on=key, how="anti", nulls_equal=True, maintain_order="left")
            for each in waiting
        ]
        yield Drafts(ready, pl.concat(lines), pl.concat(taxes))
