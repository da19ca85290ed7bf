"""The report of a month as one self-contained HTML page and as a PDF: `reports/<month>.html` and `.pdf`."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final

import polars as pl

from billing.ingest.manifest import OUTCOMES
from billing.model.catalogue import Catalogue
from billing.model.errors import RefusedError
from billing.model.money import minor_units
from billing.model.plain_rows import plain_number
from billing.model.text import counted
from billing.month.business import Business
from billing.rendering import draw_page
from billing.reports.bundled_pages import bundled_texts, page_environment
from billing.reports.month_figures import AGES
from billing.reports.month_report import MonthReport
from billing.reports.shadow_tables import shadow_tables
from billing.reports.svg_charts import bars, columns, flows
from billing.store.files import folders_synced_once, remove_file, write_bytes
from billing.store.home import Home

_NAMES: Final = ("month_report.html.j2", "month_report.css")
_AGES: Final = dict(
    zip(AGES, ("not due", "1 to 30 days", "31 to 60 days", "61 to 90 days", "over 90 days"), strict=True)
)
# Limit the bars of a chart: more are unreadable, and Dagster stores the charts with every run.
_MOST_DRAWN: Final = 15
_OF_A_CURRENCY: Final = (
    *("Totals by package", "Why it changed", "Overage by metric", "Top movements", "Corrections", "Receivables"),
    *("Prepaid credits", "Lines by kind"),
)
"""Headings of the tables that stand once for each currency."""


def write_report(business: Business, report: MonthReport, *, with_pdf: bool = True) -> tuple[Path, Path]:
    """Write both files if they changed; equal reports give equal bytes.

    Parameters
    ----------
    with_pdf
        Draw the PDF. Without it, one that is no longer that of the page is removed: `draw_report` draws it.

    Returns
    -------
    tuple
        The paths of the page and of the PDF, which may not be there.
    """
    page, pdf = report_paths(business.home, report.month)
    html = report_page(business.catalogue, report).encode()
    is_current = page.exists() and page.read_bytes() == html
    is_drawn = with_pdf and not (is_current and pdf.exists())
    # Drawing takes long. Write the page after its PDF: an unchanged page then implies that a PDF is current. A first
    # PDF is current or missing, in whatever order they reach the disk.
    with nullcontext() if pdf.exists() else folders_synced_once():
        if is_drawn:
            write_bytes(pdf, _drawn(html))
        elif not is_current:
            remove_file(pdf)
        if not is_current:
            write_bytes(page, html)
    return page, pdf


def draw_report(home: Home, month: str) -> Path:
    """Draw the PDF of a month's page, if it is not there; returns its path.

    Raises
    ------
    RefusedError
        When the month has no report.
    """
    page, pdf = report_paths(home, month)
    if not page.exists():
        raise RefusedError(f"{month}: found no report {page}, expected a month that was billed")
    if not pdf.exists():
        write_bytes(pdf, _drawn(page.read_bytes()))
    return pdf


def _drawn(html: bytes) -> bytes:
    return draw_page(html.decode(), "month_report_print.css")


def report_paths(home: Home, month: str) -> tuple[Path, Path]:
    """Where the page and the PDF of a month stand."""
    return home.reports / f"{month}.html", home.reports / f"{month}.pdf"


def report_page(catalogue: Catalogue, report: MonthReport) -> str:
    """Render the page: self-contained, with charts as inline SVG."""
    from markupsafe import Markup

    texts = bundled_texts(_NAMES)
    money = partial(_money, catalogue.minor_units)
    # The charts escape their labels.
    charts = {name: Markup(svg) for name, svg in month_charts(catalogue, report).items()}  # noqa: S704
    template = page_environment(texts).get_template(_NAMES[0])
    return template.render(
        style=Markup(texts["month_report.css"]),  # noqa: S704  # part of the program
        seller=catalogue.seller.name,
        currency=catalogue.currency,
        month=report.month,
        on=report.on.isoformat(),
        documents=f"{report.documents:,}",
        drafts=report.drafts,
        total=money(_sum(report.by_package, "total")),
        before=money(_sum(report.by_package, "before")),
        change=_signed(money)(_sum(report.by_package, "change")),
        charts=charts,
        statements=[(check.text, check.holds, check.detail) for check in report.checks],
        tables=[
            *_by_currency(catalogue, report),
            *_tables(catalogue, report, money),
            *_others(catalogue, report),
            *shadow_tables(report.shadow, month=report.month),
        ],
    )


def month_charts(catalogue: Catalogue, report: MonthReport) -> dict[str, str]:
    """The charts as SVG: spread, flow, overage and days; those that have something to show."""
    titles = package_titles(catalogue)
    metrics = {metric.name: metric.title for metric in catalogue.metrics}
    by_metric = report.by_metric.select("metric", pl.col("overage").cast(pl.Decimal(38, catalogue.minor_units)))
    charts = {
        "days": columns(
            f"Usage by day of {report.month}, events",
            [f"{day.day}" for day in report.by_day["day"]],
            report.by_day["events"].to_list(),
            report.by_day["late"].to_list(),
            "late",
        )
    }
    if report.spread.height:
        bounds = report.spread["bound"].to_list()
        labels = [f"up to {bound:,}" for bound in bounds[:-1]] + [f"over {bounds[-2]:,}"]
        charts["spread"] = bars(
            f"Documents by total, {catalogue.currency}",
            labels,
            [Decimal(count) for count in report.spread["documents"]],
        )
    if report.flow.height:
        frequent = report.flow.sort("subscriptions", descending=True, maintain_order=True).head(_MOST_DRAWN)
        moves = {(titles.get(one, one), titles.get(other, other)): count for one, other, count in frequent.iter_rows()}
        order = list(dict.fromkeys([*titles.values(), *(name for move in moves for name in move)]))
        left_out = report.flow.height - frequent.height
        title = f"the {_MOST_DRAWN} most frequent of {report.flow.height:,}" if left_out else "subscriptions"
        charts["flow"] = flows(f"Changes of package, {title}", moves, order)
    if report.by_metric.height:
        overage = [(metrics.get(name, name), amount) for name, amount in by_metric.iter_rows()]
        if len(overage) > _MOST_DRAWN:
            greatest = sorted(overage, key=lambda each: each[1], reverse=True)
            others = greatest[_MOST_DRAWN:]
            rest = sum((amount for _, amount in others), Decimal(0))
            overage = [*greatest[:_MOST_DRAWN], (counted(f"{len(others):,}", "other"), rest)]
        names, amounts = zip(*overage, strict=True)
        charts["overage"] = bars(f"Overage by metric, {catalogue.currency}", names, amounts)
    return charts


def package_titles(catalogue: Catalogue) -> dict[str, str]:
    """What packages are called, in the order of their ranks."""
    ordered = sorted(catalogue.packages, key=lambda package: package.rank)
    return {package.name: package.title for package in ordered}


def _by_currency(catalogue: Catalogue, report: MonthReport) -> list[dict[str, Any]]:
    """What was billed in each currency, and in the catalogue's; nothing where there is one currency."""
    if report.by_currency.is_empty():
        return []
    own = catalogue.currency
    rows = []
    for row in report.by_currency.iter_rows(named=True):
        money = partial(_money, minor_units(row["currency"]) or 0)
        rate = "1" if row["currency"] == own else "no rate" if row["rate"] is None else plain_number(row["rate"])
        converted = "" if row["in_own"] is None else _money(catalogue.minor_units, row["in_own"])
        since = "" if row["rate_on"] is None else row["rate_on"].isoformat()
        said = (money(row["total"]), money(row["before"]), _signed(money)(row["change"]))
        rows.append([row["currency"], *said, rate, since, converted])
    names = ("currency", "total", "before", "change", "rate", "rate on", f"in {own}")
    lacking = report.by_currency.filter(pl.col("in_own").is_null())["currency"].to_list()
    note = f"Rates of {report.on.isoformat()}, or the latest before it."
    total = ["Total", *[""] * 5, _money(catalogue.minor_units, _sum(report.by_currency, "in_own"))]
    if lacking:
        note = f"{note} Without a rate to {own}, and so not in the total: {', '.join(lacking)}."
    return [
        {
            "heading": "Totals by currency",
            "note": note,
            "columns": [(name, name not in ("currency", "rate on")) for name in names],
            "rows": rows,
            "total": total,
        }
    ]


def _others(catalogue: Catalogue, report: MonthReport) -> list[dict[str, Any]]:
    """What the page shows of other currencies than the catalogue's."""
    tables = []
    for code, figures in report.others.items():
        its = catalogue.in_currency(code)
        of = replace(report, **vars(figures), others={}, by_currency=pl.DataFrame())
        shown = _tables(its, of, partial(_money, its.minor_units))
        named = [each for each in shown if each["heading"].split(",")[0].split(" on ")[0] in _OF_A_CURRENCY]
        tables += [each | {"heading": f"{each['heading']}, {code}"} for each in named if each["rows"]]
    return tables


def _tables(catalogue: Catalogue, report: MonthReport, money: Callable[[Any], str]) -> list[dict[str, Any]]:
    """heading, note, columns (name, whether a number), rows, total: what the page shows, in its order."""
    titles = package_titles(catalogue) | {"": "none"}
    metrics = {
        metric.name: f"{metric.title}{f', {metric.unit}' if metric.unit else ''}" for metric in catalogue.metrics
    }
    signed = _signed(money)
    amounts = ("fees", "overage", "other", "tax", "total", "before", "change")
    by_package: dict[str, Callable[[Any], str | None]] = {
        "package": titles.get,
        "accounts": _count,
        **dict.fromkeys(amounts[:-1], money),
        "change": signed,
    }

    def named(name: str | None) -> str:
        return metrics.get(name or "", name or "")

    def words(text: str) -> str:
        return text.replace("_", " ")

    return [
        _table("Totals by package", report.by_package, by_package, sums=("accounts", *amounts)),
        *_by_kind_table(report, money),
        _table("Why it changed", report.causes, {"cause": str, "accounts": _count, "change": signed}, sums=("change",)),
        _table(
            "Overage by metric",
            report.by_metric,
            {
                "metric": named,
                "accounts_over": _count,
                "excess": _quantity,
                "overage": money,
                "before": money,
                "change": signed,
            },
            sums=("overage", "before", "change"),
        ),
        _table(
            "Top movements",
            report.movements,
            {"account_id": str, "name": str, "before": money, "now": money, "change": signed},
        ),
        _table(
            "Decisions", report.decisions, {"kind": words, "outcome": str, "decisions": _count}, sums=("decisions",)
        ),
        _table(
            "Late usage delivered in the month",
            report.late,
            {"metric": named, "events": _count, "quantity": _quantity, "settled": money},
            note="Late: delivered later than the day after it happened. Settled: billed on lines of earlier cycles.",
        ),
        _table(
            "Usage set aside in the month",
            report.rejected,
            {"reason": words, "metric": named, "rows": _count, "quantity": _quantity},
            sums=("rows",),
            note=f"Every row with its text: overage show rejects --month {report.month}",
        ),
        *_source_tables(catalogue, report, words),
        _table("Corrections", report.corrections, {"what": str, "documents": _count, "total": signed}),
        _table(
            f"Receivables on {report.on.isoformat()}, by days overdue",
            report.receivables,
            {"age": _AGES.get, "documents": _count, "amount_due": money},
            sums=("documents", "amount_due"),
        ),
        *_credits_table(report, money),
    ]


def _by_kind_table(report: MonthReport, money: Callable[[Decimal | None], str]) -> list[dict[str, Any]]:
    """Sums by kind of line; nothing where only packages and overage are sold."""
    if report.by_kind.is_empty():
        return []
    return [
        _table("Lines by kind", report.by_kind, {"what": str, "documents": _count, "amount": money}, sums=("amount",))
    ]


def _credits_table(report: MonthReport, money: Callable[[Decimal | None], str]) -> list[dict[str, Any]]:
    """Prepaid credits; nothing where none was ever granted."""
    if report.credits.is_empty():
        return []
    amounts = ("granted", "used", "expired", "left")
    return [
        _table(
            f"Prepaid credits, left on {report.on.isoformat()}",
            report.credits,
            {"kind": str, **dict.fromkeys(amounts, money)},
            sums=amounts,
        )
    ]


def _source_tables(catalogue: Catalogue, report: MonthReport, words: Callable[[str], str]) -> list[dict[str, Any]]:
    """What the sources delivered; nothing where the catalogue has none."""
    if not catalogue.sources:
        return []
    return [
        _table(
            "Deliveries by source",
            report.sources,
            {
                "source_name": str,
                "files": _count,
                **dict.fromkeys(OUTCOMES, _count),
                "first_time": _time,
                "last_time": _time,
                "usual": _count,
            },
            sums=("files", *OUTCOMES),
            note="Without a name: files that no source reads. Usual: rows of the same weekdays of the weeks before.",
        ),
        _table(
            "Set aside by source",
            report.rejected_by_source,
            {"source_name": str, "reason": words, "rows": _count},
            sums=("rows",),
        ),
    ]


def _table(
    heading: str,
    frame: pl.DataFrame,
    writers: Mapping[str, Callable[[Any], str | None]],
    sums: tuple[str, ...] = (),
    note: str = "",
) -> dict[str, Any]:
    shown = frame.select(list(writers))
    total = []
    if sums and shown.height > 1:
        total = [writers[name](_sum(shown, name)) if name in sums else "" for name in writers]
        total[0] = "Total"
    return {
        "heading": heading,
        "note": note,
        "columns": [(name.replace("_", " "), shown.schema[name].is_numeric()) for name in writers],
        "rows": [
            ["" if value is None else writers[name](value) or "" for name, value in zip(writers, row, strict=True)]
            for row in shown.iter_rows()
        ],
        "total": total,
    }


def _sum(frame: pl.DataFrame, column: str) -> Decimal:
    return Decimal(frame[column].sum())


def _money(places: int, amount: Decimal) -> str:
    return f"{amount:,.{places}f}"


def _signed(money: Callable[[Decimal], str]) -> Callable[[Decimal], str]:
    return lambda amount: f"+{money(amount)}" if amount > 0 else money(amount)


def _count(number: int | Decimal) -> str:
    return f"{int(number):,}"


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}"


def _quantity(quantity: Decimal) -> str:
    whole, _, part = plain_number(quantity).partition(".")
    return f"{int(whole):,}" + (f".{part[:3]}" if part else "")
