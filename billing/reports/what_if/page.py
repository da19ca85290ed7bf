"""The answer of a what-if as one self-contained page and PDF; each section names the table that its numbers are in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import polars as pl

from billing.model.catalogue import Catalogue
from billing.model.plain_rows import plain_number, plain_rows
from billing.model.text import counted
from billing.reports.bundled_pages import bundled_texts, page_environment
from billing.reports.svg_charts import MOST_LINES, bars, lines
from billing.reports.what_if.amounts import before_after, grouped, signed
from billing.reports.what_if.break_even import Grid
from billing.reports.what_if.comparison import MOST_SHOWN, Comparison

_TEMPLATE: Final = "what_if.html.j2"
_STYLES: Final = ("month_report.css", "what_if.css")
# Paper knows no narrow screens.
_PHONE: Final = "what_if_phone.css"
_SIGNED: Final = ("difference", "cost")
_MONEY: Final = ("before", "after", "issued", "expected", *_SIGNED)
_HEADINGS: Final[Mapping[str, str]] = {
    "lines": "By kind of line",
    "months": "By month",
    "packages": "By package",
    "metrics": "By metric",
    "rules": "By rule of a tariff",
}
_KINDS: Final[Mapping[str, str]] = {
    "package_fee": "Package fees",
    "hold_fee": "Hold fees",
    "proration": "Prorations",
    "seats": "Seats",
    "add_on": "Add-ons",
    "overage": "Overages",
    "charge": "One-off charges",
    "prepayment": "Prepayments",
    "minimum_spend": "Minimum spend",
    "coupon": "Coupons",
    "refund": "Refunds",
}


@dataclass(frozen=True)
class Section:
    """A table of the page.

    Attributes
    ----------
    table
        The file that has its numbers.
    columns
        Heading, and whether it is a number.
    """

    heading: str
    table: str
    columns: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[str]]
    note: str = ""
    chart: str = ""


def what_if_page(
    catalogue: Catalogue,
    compared: Sequence[Comparison],
    grid: Grid | None,
    folders: Sequence[str],
    *,
    on_paper: bool = False,
) -> str:
    """Render the page, for a screen or for paper.

    Parameters
    ----------
    catalogue
        That in force: it titles packages and metrics.
    folders
        Where the tables of each candidate are, relative to the page.
    """
    from markupsafe import Markup

    texts = bundled_texts((_TEMPLATE, *_STYLES, _PHONE))
    first = compared[0]
    parts = [
        {
            "name": found.name,
            "currency": code,
            "figures": _figures(found, code),
            "folder": folder,
            "notes": notes_of(found, code, folder),
            "sections": [_with_markup(each) for each in _sections(catalogue, found, code, folder)],
        }
        for found, folder in zip(compared, folders, strict=True)
        for code in found.currencies
    ]
    beside = _beside(compared) if len(compared) > 1 and grid is None else None
    template = page_environment(texts).get_template(_TEMPLATE)
    return template.render(
        style=Markup("".join(texts[name] for name in (*_STYLES, *(() if on_paper else (_PHONE,))))),  # noqa: S704 # part of the program
        seller=catalogue.seller.name,
        since=first.since,
        through=first.through,
        grid=None if grid is None else _with_markup(_grid_section(grid)),
        beside=beside,
        # The points of a grid are drawn together.
        parts=parts if grid is None else [],
    )


def _with_markup(section: Section) -> dict[str, Any]:
    from markupsafe import Markup

    # The charts escape their labels.
    return {**vars(section), "chart": Markup(section.chart)}  # noqa: S704


def _figures(found: Comparison, currency: str) -> list[tuple[str, str]]:
    totals = found.rows("totals", currency)
    amounts = totals[0] if totals else dict.fromkeys(("before", "after", "difference", "issued"), "0")
    accounts = found.of("accounts", currency)
    moved = int((accounts["difference"] != 0).sum())
    return [
        ("Due as it is", grouped(amounts["before"])),
        ("Due under the candidate", grouped(amounts["after"])),
        ("Difference", signed(amounts["difference"])),
        ("Accounts that change", f"{moved:,} of {accounts.height:,}"),
    ]


def notes_of(found: Comparison, currency: str, folder: str = "") -> list[str]:
    """What stands beside the sums of a currency: what is open, upgrades, what the options ask for."""
    totals = found.of("totals", currency)
    notes = []
    if totals.height and totals["before"].to_list() != totals["issued"].to_list():
        issued = found.rows("totals", currency)[0]["issued"]
        notes.append(
            f"Documents have billed {grouped(issued)} of these dates: what differs is open ({folder}totals.parquet)."
        )
    upgrades = found.of("upgrades", currency)["what"]
    counts = {what: int((upgrades == what).sum()) for what in ("caused", "avoided", "moved")}
    if any(counts.values()):
        words = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
        notes.append(f"Automatic upgrades: {words} ({folder}upgrades.parquet).")
    if found.flag_above is not None:
        flagged = counted(f"{found.of('flagged', currency).height:,}", "account")
        notes.append(
            f"Bills that change by more than {plain_number(found.flag_above)} %: {flagged} ({folder}flagged.parquet)."
        )
    if found.grandfather_before is not None:
        for row in found.rows("grandfathered", currency):
            accounts = counted(f"{row['accounts']:,}", "account")
            notes.append(
                f"{accounts} subscribed before {found.grandfather_before}: left on the old versions they pay "
                f"{grouped(row['before'])} instead of {grouped(row['after'])}; the rule costs {grouped(row['cost'])} "
                "({folder}grandfathered.parquet)."
            )
    parked = found.of("parked", currency)["account_id"].n_unique()
    if parked:
        accounts = counted(f"{parked:,}", "account")
        notes.append(f"Cannot be billed under one of the two, and not compared: {accounts} ({folder}parked.parquet).")
    notes += [f"Not reached in these months: {each}." for each in found.not_reached]
    return notes


def _sections(catalogue: Catalogue, found: Comparison, currency: str, folder: str) -> list[Section]:
    titles = {
        "packages": {package.name: package.title for package in catalogue.packages},
        "metrics": {metric.name: metric.title for metric in catalogue.metrics},
        "rules": {metric.name: metric.title for metric in catalogue.metrics},
        "lines": _KINDS,
    }
    sections = []
    for name, heading in _HEADINGS.items():
        rows = found.rows(name, currency)
        if not rows or (name == "rules" and not any(row["rule"] for row in rows)):
            continue
        keys = [key for key in rows[0] if key not in _MONEY]
        named = titles.get(name, {})
        sections.append(
            Section(
                heading,
                f"{folder}{name}.parquet",
                [*((key.capitalize(), False) for key in keys), *_AMOUNT_COLUMNS],
                [[*(named.get(row[key], row[key]) or "" for key in keys), *before_after(row)] for row in rows],
            )
        )
    accounts = found.of("accounts", currency)
    changed = accounts.filter(pl.col("difference") != 0)
    if changed.is_empty():
        return sections
    sections.append(_distribution(found, currency, folder))
    for heading, descending in (("Who pays most more", True), ("Who pays most less", False)):
        sign = pl.col("difference") > 0 if descending else pl.col("difference") < 0
        top = changed.filter(sign).sort("difference", "account_id", descending=[descending, False]).head(MOST_SHOWN)
        if top.is_empty():
            continue
        rows = [*_rows_of(found, top, currency)]
        sections.append(
            Section(
                heading,
                f"{folder}accounts.parquet",
                [("Account", False), *_AMOUNT_COLUMNS, ("Why", False)],
                [[row["account_id"], *before_after(row), row["why"]] for row in rows],
                note=f"The first {MOST_SHOWN} of {int(changed.select(sign.sum()).item()):,}."
                if changed.filter(sign).height > MOST_SHOWN
                else "",
            )
        )
    return sections


_AMOUNT_COLUMNS: Final = (("As it is", True), ("Candidate", True), ("Difference", True))


def _rows_of(found: Comparison, frame: pl.DataFrame, currency: str) -> list[dict[str, Any]]:
    return plain_rows(frame, found.decimals(currency))


def _distribution(found: Comparison, currency: str, folder: str) -> Section:
    rows = found.rows("distribution", currency)
    labels = [_bounds(row["from_percent"], row["to_percent"]) for row in rows]
    percentiles = ", ".join(
        f"{row['percentile']} %: {signed(row['difference'])}" for row in found.rows("percentiles", currency)
    )
    return Section(
        "Accounts by change",
        f"{folder}distribution.parquet",
        [("Change of the bill", False), ("Accounts", True), ("Difference", True)],
        [[label, f"{row['accounts']:,}", signed(row["difference"])] for label, row in zip(labels, rows, strict=True)],
        note=f"Percentiles of the difference ({folder}percentiles.parquet): {percentiles}.",
        chart=bars("Accounts by change of their bill", labels, [Decimal(row["accounts"]) for row in rows]),
    )


def _bounds(low: int | None, high: int | None) -> str:
    if low is None and high is None:
        return "nothing due before"
    if low == high:
        return "unchanged"
    if low is None:
        return f"more than {-(high or 0)} % less"
    if high is None:
        return f"more than {low} % more"
    return f"{low} to {high} % more" if low >= 0 else f"{-high} to {-low} % less"


def _beside(compared: Sequence[Comparison]) -> Section:
    """The candidates side by side."""
    rows = []
    for found in compared:
        for code in found.currencies:
            figures = [value for _, value in _figures(found, code)]
            rows.append([found.name, code, *figures])
    columns = [("Candidate", False), ("Currency", False), *_AMOUNT_COLUMNS, ("Accounts that change", True)]
    return Section("Side by side", "NAME/totals.parquet", columns, rows)


def _lines_of_two(paths: Sequence[str], rows: Sequence[Mapping[str, str]], currency: str) -> str:
    """What is due along the first path, a line for each of some values of the second, spread evenly."""
    values = list(dict.fromkeys(row["value_2"] for row in rows))
    step = -(-len(values) // MOST_LINES)
    series = {
        f"at {value}": [Decimal(row["after"]) for row in rows if row["value_2"] == value] for value in values[::step]
    }
    labels = list(dict.fromkeys(row["value_1"] for row in rows))
    return lines(f"{paths[0]}, {currency}, at values of {paths[1]}", labels, series)


def _grid_section(grid: Grid) -> Section:
    rows = grid.rows()
    paths = [path for path, _ in zip(grid.paths, ("value_1", "value_2"), strict=False)]
    values = ["value_1", "value_2"][: len(paths)]
    has_assumption = grid.elasticity != 0
    if len(paths) > 1:
        chart = _lines_of_two(paths, rows, grid.currency)
    else:
        series = {"due": [Decimal(row["after"]) for row in rows]}
        if has_assumption:
            series["expected"] = [Decimal(row["expected"]) for row in rows]
        series["as it is"] = [Decimal(row["before"]) for row in rows]
        chart = lines(f"{paths[0]}, {grid.currency}", [row["value_1"] for row in rows], series)
    return Section(
        "Along the prices",
        "grid.parquet",
        [
            *((path, True) for path in paths),
            ("Due", True),
            *([("Expected", True)] if has_assumption else []),
            ("Difference", True),
            ("Accounts that pay more", True),
            ("less", True),
        ],
        [
            [
                *(row[value] for value in values),
                grouped(row["after"]),
                *([grouped(row["expected"])] if has_assumption else []),
                signed(row["difference"]),
                f"{row['accounts_more']:,}",
                f"{row['accounts_less']:,}",
            ]
            for row in rows
        ],
        note=f"Assumption: {grid.assumption}.",
        chart=chart,
    )
