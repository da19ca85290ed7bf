"""Command output: messages to standard error, results as a table, CSV or JSON to standard output."""

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from billing.model.text import counted
from billing.store.working_copy import with_urls
from pipeline.terminal import csv_cell, printable, printable_cell

_WIDTH, _BETWEEN_COLUMNS = 240, 3


def say(message: str) -> None:
    """Print a message to standard error."""
    click.echo(printable(with_urls(message)), err=True)


def tell(result: str) -> None:
    """Print a line of a result to standard output."""
    click.echo(printable(with_urls(result)))


def signed_lines(lines: list[dict[str, Any]]) -> list[str]:
    """Lines of a note for display: first its charges (+) and credits (-), then the reasons."""
    signed = [f"+{amount}" if not amount.startswith("-") else amount for amount in (line["amount"] for line in lines)]
    width = max(map(len, signed), default=0)
    return [f"{amount:>{width}}  {line['description']}" for amount, line in zip(signed, lines, strict=True)]


def print_explanation(line: dict[str, Any]) -> None:
    place = "no line" if line["line"] is None else f"line {line['line']}"
    # Put the amount before the description: that of a settlement line ends with an amount too.
    amount = "" if line["amount"] is None else f": {line['amount']}"
    tell(f"{line['number']} {place}{amount}: {line['description']}")
    if line["cycle_start"] and line["package"]:
        tell(f"  {line['package']}, cycle {line['cycle_start']} to {line['cycle_end']} (not included)")
    for step in line["arithmetic"]:
        tell(f"  {step}")
    for day in line["days"]:
        tell(f"    {day['day']}  {day['quantity']:>16}  in {counted(day['events'], 'event')}")
    printed = line["events"][:10]
    for event in printed:
        place = f"{event['delivery_day']}/{event['file']} row {event['row']}"
        time, quantity = event["time"] or "", event["quantity"] or ""
        tell(f"      {time}  {quantity:>12}  {event['source'] or ''} {event['id'] or ''}  ({place})")
    total = line["events_total"]
    if total > len(printed):
        words = "--format json" if total == len(line["events"]) else f"--format json --events {total}"
        tell(f"      and {total - len(printed)} more: {words} lists them")


def print_rows(
    rows: list[dict[str, Any]],
    columns: list[str],
    style: str,
    *,
    raw: bool = False,
    types: Mapping[str, bool] | None = None,
) -> None:
    """Print rows as a table, as JSON, or as CSV.

    Parameters
    ----------
    raw
        CSV without escaping of control characters and of cells that a spreadsheet takes for formulas.
    types
        Per column, whether it holds text.
    """
    from billing.model.plain_rows import as_json
    from billing.reports.show import TECHNICAL

    if style == "json":
        click.echo(as_json(rows))
    elif style == "csv":
        click.echo(csv_text(rows, columns, raw=raw, types=types), nl=False)
    else:
        _print_table(rows, [column for column in columns if column not in TECHNICAL])


def csv_text(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    *,
    raw: bool = False,
    types: Mapping[str, bool] | None = None,
) -> str:
    """Rows as CSV with a header; `raw` and `types` as of `print_rows`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    cell = _raw_cell if raw else csv_cell
    writer.writerows([cell(row[column], is_text=(types or {}).get(column)) for column in columns] for row in rows)
    return text.getvalue()


def _raw_cell(value: Any, *, is_text: bool | None) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _print_table(rows: list[dict[str, Any]], columns: list[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    # Leave out empty columns.
    shown = [column for column in columns if not rows or any(row[column] not in (None, [], "") for row in rows)]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    cells = [[_table_cell(row[column]) for column in shown] for row in rows]
    words = [max(_longest_word(line[place]) for line in [shown, *cells]) for place in range(len(shown))]
    needed = sum(words) + _BETWEEN_COLUMNS * len(shown)
    console = Console(highlight=False, markup=False)
    if not sys.stdout.isatty():
        console = Console(width=max(_WIDTH, needed), highlight=False, markup=False)
    for column, longest in zip(shown, words, strict=True):
        values = [row[column] for row in rows if row[column] is not None]
        is_number = bool(values) and all(_is_number(value) for value in values)
        # Keep whole words only if there is room: otherwise all columns shrink in proportion.
        least = longest if needed <= console.width else None
        table.add_column(column, justify="right" if is_number else "left", overflow="fold", min_width=least)
    for line in cells:
        table.add_row(*line)
    console.print(table)
    say(counted(len(rows), "row"))


def _longest_word(text: str) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, text.split()), default=0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and value.lstrip("-").replace(".", "", 1).isdigit())


def _table_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "\n".join(_table_cell(item) for item in value)
    if isinstance(value, dict):
        return " ".join(_table_cell(item) for item in value.values() if item is not None)
    return printable_cell(str(value))
