"""The lake files of one delivery day: events by month, rejects, repeats and the manifest."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Final

import polars as pl

from billing.ingest.aliases import ALIAS
from billing.ingest.day_files import files_of_day, read_repeats, remove_others, write_by_month
from billing.ingest.deduplication import CONFLICTING, DUPLICATE, FIRST, REPEATS
from billing.ingest.event_views import Valid, View, are_copied, view_of, write_views
from billing.ingest.manifest import (
    ParsedVersion,
    file_states,
    manifest,
    measured_column,
    rounded,
    span,
    tally,
)
from billing.ingest.measured_events import events_of
from billing.ingest.metric_members import FLAT_VALUE, required_members
from billing.ingest.parsed_rows import IGNORED, PARSED, with_details
from billing.ingest.required_columns import IMPOSSIBLE_VALUE, OF_A_WHOLE_FILE, PLAIN_DECIMAL, shown
from billing.ingest.state import DayState, FileState
from billing.ingest.validation import Rules
from billing.model.card_numbers import mask_card_number_column
from billing.model.columns import BASE_QUANTITY, QUANTITY, Table
from billing.model.tables import EVENTS, INGEST, REJECTS
from billing.store.files import file_hash, remove_file
from billing.store.frames import write_frame
from billing.store.home import Home
from billing.store.parquet_writer import row_groups

_HELD_TOGETHER: Final = 100_000
Texts = Callable[[pl.DataFrame], pl.DataFrame]
"""Looks up the texts (file, row, text) of rows (file, row) that only other rows or the accounts make rejects."""


def write_day(
    home: Home,
    *,
    day: date,
    files: Sequence[ParsedVersion],
    rules: Rules,
    texts: Texts,
    valid: Valid,
) -> DayState:
    """Write every lake file of one delivery day but REPEATS, which says what counts; remove files that would be empty.

    Parameters
    ----------
    files
        Sorted by name.

    Raises
    ------
    AssertionError
        When a file's rows are not counted + duplicates + rejected + ignored (rules 27 and 39).
    """
    rejects = []
    states: dict[str, FileState] = {}
    marks = read_repeats(home, day)
    views: list[View] = []
    may_view = not are_copied(files, valid, rules)

    def counting_rows() -> Iterator[pl.DataFrame]:
        for together in read_together(files):
            names = [file.name for file in together]
            marked = marks.filter(pl.col("file").is_in(names))
            tallies = [tally(marked.filter(pl.col("mark") == DUPLICATE), "duplicates", names)]
            events = []
            view = view_of(together[0], valid, marked, rules) if may_view else None
            if view is None:
                chunks = _read_chunks(together, valid, rules)
            else:
                views.append(view)
                tallies += view.tallies
                # What counts first is in the view, and what does not is among the others.
                marked = marked.filter(pl.col("mark") != FIRST)
                chunks = _others(view, valid, rules)
            for rows, are_valid in chunks:
                counting, aside, _ = _split_by_outcome(rows, are_valid, marked, rules, day)
                ignored = aside.filter(pl.col("reason") == IGNORED)
                rejected = aside.filter(pl.col("reason") != IGNORED) if len(ignored) else aside
                events.append(events_of(counting, day, rules))
                if len(names) == 1:
                    yield events.pop()
                rejects.append(_rejects(rejected, day, rules, texts))
                outcomes = {"rows": rows, "counted": counting, "rejected": rejected, "ignored": ignored}
                tallies += [tally(part, name, names) for name, part in outcomes.items()]
                tallies += [rounded(counting, rules), span(counting)]
                unreadable = rejected.filter(pl.col("reason").is_in(OF_A_WHOLE_FILE))
                tallies.append(unreadable.select("file", unreadable=pl.col("text").fill_null("")))
            if events:
                yield pl.concat(events).sort(EVENTS.key) if len(events) > 1 else events[0]
            states.update(file_states(together, tallies, day))

    outputs = write_by_month(home, EVENTS, day, counting_rows(), rules)
    described = _described(home, [view.file.parsed for view in views])
    outputs += write_views(home, day, views, described)
    remove_others(home, EVENTS, day, outputs)
    outputs += _write_or_remove(home.delivery(REJECTS, day), pl.concat([REJECTS.empty(), *rejects]), REJECTS)
    outputs += files_of_day(home, REPEATS, day)
    # Write the manifest last: it lists the versions that the other files were made from.
    outputs += _write_or_remove(home.delivery(INGEST, day), manifest(day, states), INGEST)
    return DayState(files=states, outputs=described | _described(home, outputs))


def _others(view: View, valid: Valid, rules: Rules) -> Iterator[tuple[pl.DataFrame, pl.Series]]:
    """As `_read_chunks`, of the rows that a view leaves out."""
    rows = view.others()
    yield rules.with_accounts(rows.drop("place")), valid(view.file.parsed).gather(rows["place"])


def with_repeats(home: Home, day: date, before: DayState) -> DayState:
    """A day whose REPEATS were written while its counted rows, and all its other files, are as before."""
    kept = {path: output for path, output in before.outputs.items() if not path.startswith(f"{REPEATS.name}/")}
    return replace(before, outputs=kept | _described(home, files_of_day(home, REPEATS, day)))


def read_together(files: Sequence[ParsedVersion]) -> Iterator[list[ParsedVersion]]:
    """Batches of the files in their order: consecutive small files share a batch."""
    held: list[ParsedVersion] = []
    rows = 0
    for file in files:
        own = file.place.rows
        if held and (own is None or rows + own > _HELD_TOGETHER):
            yield held
            held, rows = [], 0
        if own is None:
            yield [file]
        else:
            held.append(file)
            rows += own
    if held:
        yield held


def _read_chunks(
    files: Sequence[ParsedVersion], valid: Valid, rules: Rules
) -> Iterator[tuple[pl.DataFrame, pl.Series]]:
    """Parsed rows of files with `file`, in chunks of one schema, each with whether its rows are valid."""
    if files[0].place.rows is not None:
        for rows, are_valid in _read_shared(files, valid):
            yield rules.with_accounts(rows), are_valid
        return
    file = files[0]
    parsed = pl.scan_parquet(file.parsed, glob=False, hive_partitioning=False)
    start, is_valid = 0, valid(file.parsed)
    # Read whole row groups: slicing one costs a full read.
    for length in row_groups(file.parsed) or [0]:
        together = with_details(parsed.slice(start, length).collect()).with_columns(file=pl.lit(file.name))
        for place in range(0, max(1, length), _HELD_TOGETHER):
            part = rules.with_accounts(together.slice(place, _HELD_TOGETHER))
            yield part, is_valid.slice(start + place, len(part))
        start += length


def _read_shared(files: Sequence[ParsedVersion], valid: Valid) -> Iterator[tuple[pl.DataFrame, pl.Series]]:
    """Rows of files that share parsed files: one chunk per schema, in the order of the files."""
    by_schema: dict[tuple[str, ...], list[pl.DataFrame]] = {}
    parts = pl.DataFrame(
        [(str(file.parsed), file.name, turn, file.place.start, file.place.rows) for turn, file in enumerate(files)],
        schema={"path": pl.String, "file": pl.String, "turn": pl.Int64, "start": pl.Int64, "length": pl.Int64},
        orient="row",
    )
    for (path,), own in parts.group_by("path", maintain_order=True):
        places = own.select(
            "file", "turn", place=pl.int_ranges("start", pl.col("start") + pl.col("length"), dtype=pl.Int64)
        ).explode("place", empty_as_null=False)
        rows = with_details(pl.read_parquet(str(path), glob=False, hive_partitioning=False)[places["place"]])
        is_valid = valid(Path(str(path))).gather(places["place"]).alias("is_valid")
        by_schema.setdefault(tuple(rows.columns), []).append(
            rows.with_columns(places["file"], places["turn"], is_valid)
        )
    for frames in by_schema.values():
        rows = pl.concat(frames)
        if len(frames) > 1:
            rows = rows.sort("turn", "row")
        yield rows.drop("turn", "is_valid"), rows["is_valid"]


def _split_by_outcome(
    rows: pl.DataFrame, valid: pl.Series, marks: pl.DataFrame, rules: Rules, day: date
) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Split parsed rows: those that count; rejects, with `reason`; the number of duplicates.

    Parameters
    ----------
    rows
        With `file`; sorted by file and row.
    """
    places, mark = _marked_rows(rows, marks)
    counted = rows.filter(valid.clone().scatter(places.filter(mark != FIRST), values=False))
    contradictions = rows[places.filter(mark == CONFLICTING)].with_columns(reason=pl.lit(CONFLICTING))
    faults = rows.filter(~valid)
    rejected = pl.concat([faults.with_columns(reason=rules.reason(day, len(faults))), contradictions])
    return counted, rejected.sort("file", "row"), int((mark == DUPLICATE).sum())


def _marked_rows(rows: pl.DataFrame, marks: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    """Positions and marks of the marked rows; only valid rows are marked."""
    if rows.is_empty() or marks.is_empty():
        return pl.Series(dtype=pl.UInt32), pl.Series(dtype=pl.String)
    if rows["file"][0] == rows["file"][-1]:
        # Rows are sorted by number: filter the marks by range before the join.
        own = marks.filter(pl.col("row").is_between(rows["row"][0], rows["row"][-1]), pl.col("file") == rows["file"][0])
        return rows["row"].search_sorted(own["row"]), own["mark"]
    key = ["file", "row"]
    found = rows.select(key).with_row_index("place").join(marks.select(*key, "mark"), on=key)
    return found["place"], found["mark"]


def _rejects(rows: pl.DataFrame, day: date, rules: Rules, texts: Texts) -> pl.DataFrame:
    if rows.is_empty():
        return REJECTS.empty()
    wanted = rows.filter(pl.col("text").is_null()).select("file", "row")
    if len(wanted):
        found = texts(wanted).unique(["file", "row"], keep="first")
        rows = (
            rows.join(found.rename({"text": "found"}), on=["file", "row"], how="left", maintain_order="left")
            .with_columns(text=pl.coalesce("text", "found", _text_of_fields(rows)))
            .drop("found")
        )
    names, quantity = pl.lit(None, pl.String), pl.lit(None, QUANTITY)
    for metric in reversed(rules.metrics):
        column = measured_column(metric, rows.columns)
        of_metric = pl.col("type") == metric.event
        names = pl.when(of_metric).then(pl.lit(metric.name)).otherwise(names)
        own = pl.lit(Decimal(1) if metric.measure == "count" else None, QUANTITY)
        if column == FLAT_VALUE and len(required_members(rules.types[metric.event])) > 1:
            # Leave it empty: the value could belong to another metric.
            column = None
        if column is not None and metric.measure != "unique":
            known = pl.col(column).str.contains(PLAIN_DECIMAL) & (pl.col("reason") != IMPOSSIBLE_VALUE)
            own = pl.when(known).then(column).cast(BASE_QUANTITY)
        quantity = pl.when(of_metric).then(_in_units(own, metric.unit_size)).otherwise(quantity)
    conflicting = pl.format(
        "id: found {} again with other content, expected the same account, type, time and values, or an id of its own",
        shown(pl.col("id")),
    )
    rejects = rows.select(
        delivery_day=pl.lit(day),
        file="file",
        row="row",
        reason="reason",
        text="text",
        source="source",
        id="id",
        account_id="subject",
        metric=names,
        quantity=quantity,
        detail=pl.when(pl.col("reason") == CONFLICTING)
        .then(conflicting)
        .otherwise(pl.coalesce("detail", rules.words(day, looked_up=ALIAS in rows.columns))),
    )
    # Mask card numbers (rule 11): the check of counted rows skips these columns.
    return rejects.with_columns(map(mask_card_number_column, rejects[["text", "source", "id", "account_id", "detail"]]))


def _in_units(quantity: pl.Expr, unit_size: Decimal) -> pl.Expr:
    if unit_size == 1:
        return quantity.cast(QUANTITY)
    return quantity.cast(QUANTITY) / pl.lit(unit_size, pl.Decimal(38, 0))


def _text_of_fields(rows: pl.DataFrame) -> pl.Expr:
    """The text of a row whose delivered file is gone, rebuilt from its stored fields."""
    kept = [name for name in rows.columns if name not in (*PARSED, "file", "mark")]
    fields = [pl.col(name) for name in ("id", "source", "type", "subject", *kept)]
    return pl.struct(*fields, pl.col("time").dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ")).struct.json_encode()


def _described(home: Home, outputs: Sequence[Path]) -> dict[str, tuple[int, str]]:
    """Size and hash of lake files, by their paths relative to the lake."""
    return {str(path.relative_to(home.lake)): (path.stat().st_size, file_hash(path)) for path in outputs}


def _write_or_remove(path: Path, frame: pl.DataFrame, table: Table) -> list[Path]:
    if len(frame) == 0:
        remove_file(path)
        return []
    write_frame(path, frame, table)
    return [path]
