"""Tariffs as a document's page shows them (rules 3 and 34)."""

from typing import Final

import polars as pl

from billing.model.catalogue import Catalogue, Tariff, terms_periods

TERMS: Final = ("terms_key", "package", "since")
"""Columns that name terms, as `with_terms` adds them."""

_TIER: Final = pl.Struct({"up_to": pl.String, "unit_price": pl.String, "flat": pl.String})
TARIFF: Final = pl.Struct(
    {
        "model": pl.String,
        "size": pl.String,
        "tiers": pl.List(_TIER),
        **dict.fromkeys(("percent", "per_event", "free_events", "events"), pl.String),
    }
)
"""A tariff as a page shows it; the last four are of percentages: the events are those that counted."""
NO_PERCENTAGE: Final = ',"percent":null,"per_event":null,"free_events":null,"events":null'
"""What other tariffs leave out of stored contents."""


def tariffs(catalogue: Catalogue) -> pl.DataFrame:
    """TERMS, metric, rule, tariff (as the page shows it), minimum and maximum (as text; null is none)."""
    rows = [
        {
            "terms_key": period.account_id,
            "package": period.package,
            "since": period.since,
            "metric": metric,
            "rule": rule,
            "tariff": _tariff(each),
            "minimum": None if each.minimum is None else f"{each.minimum:f}",
            "maximum": None if each.maximum is None else f"{each.maximum:f}",
        }
        for period in terms_periods(catalogue)
        for metric, tariff in period.terms.overage.items()
        if tariff is not None
        for rule, each in [(None, tariff), *((rule.name, rule.tariff) for rule in tariff.by)]
        if each is not None
    ]
    return pl.DataFrame(
        rows,
        schema={
            "terms_key": pl.String,
            "package": pl.String,
            "since": pl.Date,
            "metric": pl.String,
            "rule": pl.String,
            "tariff": TARIFF,
            "minimum": pl.String,
            "maximum": pl.String,
        },
    )


def with_events(tariff: str, events: str) -> pl.Expr:
    """A TARIFF with the events that it prices, where it is a percentage."""
    own = pl.col(tariff)
    priced = own.struct.with_fields(pl.col(events).cast(pl.String).alias("events"))
    return pl.when(own.struct.field("percent").is_not_null()).then(priced).otherwise(own)


def _tariff(tariff: Tariff) -> dict[str, object]:
    if tariff.model == "block":
        tiers = [{"up_to": None, "unit_price": f"{tariff.price:f}", "flat": None}]
    else:
        tiers = [
            {
                "up_to": None if tier.up_to is None else f"{tier.up_to:f}",
                "unit_price": None if tariff.model == "stairstep" else f"{tier.unit_price:f}",
                "flat": f"{tier.flat:f}" if tier.flat or tariff.model == "stairstep" else None,
            }
            for tier in tariff.tiers
        ]
    size = None if tariff.size is None else f"{tariff.size:f}"
    said: dict[str, object] = {"model": tariff.model, "size": size, "tiers": tiers}
    if tariff.percent is not None:
        said |= {"percent": f"{tariff.percent:f}", "free_events": str(tariff.free_events)}
        said["per_event"] = f"{tariff.per_event:f}" if tariff.per_event else None
    return said
