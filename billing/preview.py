"""What issuing or re-running a month would change: tried out in a scratch copy, and compared with what there is.

Nothing of the home is changed. Old and new stand side by side, each with its cause: the delivery, request, payment or
part of the catalogue that moved since the last run (rules 19 to 22).
"""

from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final

import polars as pl

from billing.business import Business
from billing.calendar import month_of, months_after, months_between
from billing.given import moved_given
from billing.ingest import scan_events
from billing.month import billed_months, ingest_usage, month_differences
from billing.plain_values import plain_rows
from billing.scratch import bring_up_to_date, scratch_copy
from billing.tables import DECISIONS, DRAFTS, MONEY, PACKAGES, PARKED

CHANGES: Final = pl.Schema(
    {
        "account_id": pl.String(),
        "subscription_id": pl.String(),
        "billing_month": pl.String(),
        "billing_date": pl.Date(),
        "what": pl.String(),
        "item": pl.String(),
        "old": pl.String(),
        "new": pl.String(),
        "difference": MONEY,
        "causes": pl.List(pl.String()),
    }
)
"""A change; `what` is document, draft, line, cycle (closed, and its due amount moved), package, decision or parked."""

_ORDER: Final = ["document", "draft", "line", "cycle", "package", "decision", "parked"]


@dataclass(frozen=True)
class Preview:
    """What billing a month as of a day would change.

    Attributes
    ----------
    moved
        By billing month: the inputs that moved since it was built.
    changes
        As CHANGES, sorted by account.
    decimals
        Of the currency's minor unit.
    """

    month: str
    as_of: date
    moved: dict[str, list[str]]
    changes: pl.DataFrame
    decimals: int

    def totals(self) -> dict[str, Any]:
        """How many changes of each kind, and what they come to: documents, drafts and cycles in money."""
        sums = self.changes.group_by("what").agg(changes=pl.len(), difference=pl.col("difference").sum())
        found = {row["what"]: row for row in plain_rows(sums, self.decimals)}
        nothing = plain_rows(pl.DataFrame({"difference": [0]}).cast(MONEY), self.decimals)[0]
        empty = {"changes": 0, **nothing}
        return {
            "accounts": self.changes["account_id"].n_unique(),
            **{
                what: {key: value for key, value in found.get(what, empty).items() if key != "what"}
                if what in ("document", "draft", "cycle")
                else found.get(what, empty)["changes"]
                for what in _ORDER
                if what != "line"
            },
        }

    def rows(self) -> list[dict[str, Any]]:
        """The changes as plain values."""
        return plain_rows(self.changes, self.decimals)

    def as_plain(self) -> dict[str, Any]:
        """month, as_of, moved, totals, accounts (account_id, changes): the whole preview as plain values."""
        accounts: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows():
            accounts.setdefault(row.pop("account_id"), []).append(row)
        return {
            "month": self.month,
            "as_of": self.as_of.isoformat(),
            "moved": self.moved,
            "totals": self.totals(),
            "accounts": [{"account_id": account, "changes": changes} for account, changes in accounts.items()],
        }


def preview_month(business: Business, month: str) -> Preview:
    """What `bill` would change for a month and all before it, as of the business's day.

    A day before the latest `issued_on` is looked back to: nothing could be issued then, drafts and differences show.
    """
    latest = business.register.latest_issued_on()
    with scratch_copy(business, business.as_of, issues=latest is None or business.as_of >= latest) as scratch:
        ingest_usage(scratch)
        moved = bring_up_to_date(scratch, month)
        months = billed_months(scratch, month)
        # compared with what has really been issued, before the scratch copy issued anything
        known = replace(scratch, register=business.register)
        differences = month_differences(known, scratch.first_month or month, months_after(month, 1))
        parts = [
            _documents(business, scratch),
            _drafts(business, scratch, months),
            _lines(business, scratch),
            _cycles(differences, scratch),
            _packages(business, scratch, months),
            _decisions(business, scratch, months),
            _parked(business, scratch, months),
        ]
        rank = pl.col("what").replace_strict({what: place for place, what in enumerate(_ORDER)}, return_dtype=pl.Int8)
        columns = [*(name for name in CHANGES if name != "causes"), "explained"]
        changes = pl.concat(part.select(columns) for part in parts)
        caused = _with_causes(changes, differences, business, scratch).sort(
            "account_id", rank, "billing_date", "subscription_id", "item", maintain_order=True
        )
    return Preview(month, business.as_of, moved, caused, business.catalogue.minor_units)


def _documents(business: Business, scratch: Business) -> pl.DataFrame:
    """Documents that would be issued; `old` is the total of the draft there is now."""
    issued = _newly_issued(business, scratch)
    months = issued["billing_month"].unique().to_list()
    settling = scratch.register.lines(months).filter(pl.col("kind") == "prior_cycle")["number"]
    drafts = _stored_drafts(business, months)
    return issued.join(
        drafts, on=["subscription_id", "billing_date", "corrects"], how="left", nulls_equal=True
    ).with_columns(
        what=pl.lit("document"),
        item=pl.format("{} {}", "number", pl.col("kind").str.replace("_", " ")),
        old=_amount("draft_total", business),
        new=_amount("total", business),
        difference="total",
        explained=pl.col("number").is_in(settling.implode()),
    )


def _newly_issued(business: Business, scratch: Business) -> pl.DataFrame:
    return scratch.register.documents().join(business.register.documents().select("number"), on="number", how="anti")


def _stored_drafts(business: Business, months: list[str]) -> pl.DataFrame:
    found = business.scan_months(DRAFTS, months).select(
        "subscription_id", "billing_date", "corrects", draft_total="total", draft_hash="content_hash"
    )
    return found.collect()


def _drafts(business: Business, scratch: Business, months: list[str]) -> pl.DataFrame:
    """Drafts that would stay drafts, where they differ from those there are now."""
    keys = ["subscription_id", "billing_date", "corrects"]
    now = _stored_drafts(business, months)
    then = scratch.scan_months(DRAFTS, months).drop("content").collect()
    changed = then.join(now, on=keys, how="left", nulls_equal=True).filter(
        pl.col("content_hash").ne_missing(pl.col("draft_hash"))
    )
    return changed.with_columns(
        what=pl.lit("draft"),
        item=pl.col("kind").str.replace("_", " "),
        old=_amount("draft_total", business),
        new=_amount("total", business),
        difference=pl.col("total") - pl.col("draft_total").fill_null(0),
        explained=pl.col("draft_total").is_not_null(),
    )


def _lines(business: Business, scratch: Business) -> pl.DataFrame:
    """The lines of the documents that would be issued."""
    issued = _newly_issued(business, scratch)
    lines = scratch.register.lines(issued["billing_month"].unique().to_list())
    keys = ["number", "account_id", "subscription_id", "billing_month", "billing_date"]
    return lines.join(issued.select(keys), on="number").with_columns(
        what=pl.lit("line"),
        item=pl.format("{} line {}: {}", "number", "line", "description"),
        old=pl.lit(None, pl.String),
        new=_amount("amount", business),
        difference="amount",
        explained=pl.col("kind") == "prior_cycle",
    )


def _cycles(differences: pl.DataFrame, scratch: Business) -> pl.DataFrame:
    """Closed billing dates whose due amount is not what was issued; issued and due side by side."""
    titles = {metric.name: metric.title for metric in scratch.catalogue.metrics}
    fee = pl.col("kind").str.replace("_", " ").str.to_titlecase()
    return differences.with_columns(
        what=pl.lit("cycle"),
        billing_month=month_of(pl.col("billing_date")),
        item=pl.format(
            "{}, cycle {} to {}",
            pl.coalesce(pl.col("metric").replace_strict(titles, default=None, return_dtype=pl.String), "metric", fee),
            "cycle_start",
            "cycle_end",
        ),
        old=_amount("issued", scratch),
        new=_amount("due", scratch),
        difference=pl.col("due") - pl.col("issued"),
        explained=True,
    )


def _packages(business: Business, scratch: Business, months: list[str]) -> pl.DataFrame:
    text = pl.concat_str(
        pl.col("closing_package").fill_null("start"),
        pl.lit(" -> "),
        pl.col("opening_package").fill_null("end"),
        pl.format(" ({})", "status"),
    )
    return _compared(business, scratch, months, PACKAGES, ["subscription_id", "billing_date"], text, "package")


def _decisions(business: Business, scratch: Business, months: list[str]) -> pl.DataFrame:
    text = pl.concat_str(
        "outcome",
        pl.format(" ({})", "reason"),
        pl.format(": {}", "to_package"),
        pl.format(" from {}", "effective_on"),
        ignore_nulls=True,
    )
    changed = _compared(business, scratch, months, DECISIONS, ["decision_id"], text, "decision")
    item = pl.concat_str(pl.col("kind").str.replace("_", " "), pl.format(" {}", "request_id"), ignore_nulls=True)
    answers_a_request = pl.col("request_id").is_not_null()
    return changed.with_columns(billing_date="decided_on", item=item, explained=pl.col("explained") | answers_a_request)


def _parked(business: Business, scratch: Business, months: list[str]) -> pl.DataFrame:
    changed = _compared(business, scratch, months, PARKED, ["billing_month", "account_id"], pl.col("reason"), "parked")
    return changed.with_columns(subscription_id=pl.lit(None, pl.String), billing_date=pl.lit(None, pl.Date))


def _compared(
    business: Business,
    scratch: Business,
    months: list[str],
    table: Any,
    keys: list[str],
    text: pl.Expr,
    what: str,
) -> pl.DataFrame:
    """Rows of a table whose `text` would be another, appear or go; their other columns as they would be, or were."""
    old, new = (each.scan_months(table, months).with_columns(text=text).collect() for each in (business, scratch))
    both = new.join(old, on=keys, how="full", coalesce=True, suffix="_old")
    rest = [name for name in new.columns if name not in (*keys, "text")]
    return (
        both.filter(pl.col("text").ne_missing(pl.col("text_old")))
        .with_columns(pl.coalesce(name, f"{name}_old") for name in rest)
        .with_columns(
            what=pl.lit(what),
            item=pl.lit(what),
            old="text_old",
            new="text",
            difference=pl.lit(None, MONEY),
            explained=pl.col("text_old").is_not_null(),
        )
    )


def _with_causes(
    changes: pl.DataFrame, differences: pl.DataFrame, business: Business, scratch: Business
) -> pl.DataFrame:
    """`changes` with `causes`: what moved since the last run and bears on the account, or that the date has come."""
    given = moved_given(business, scratch)
    is_shared = pl.col("account_id").is_null()
    shared = given.filter(is_shared & (pl.col("kind") != "delivery"))
    of_package = differences.join(shared, on="package").select("account_id", "cause")
    of_all = changes.select("account_id").unique().join(shared.filter(pl.col("package").is_null()), how="cross")
    deliveries = _deliveries_behind(differences, given.filter(pl.col("kind") == "delivery"), business, scratch)
    by_account = (
        pl.concat(
            [
                given.filter(~is_shared).select("account_id", "cause"),
                of_package,
                of_all.select(deliveries.columns),
                deliveries,
            ]
        )
        .unique()
        .group_by("account_id")
        .agg(moved=pl.col("cause").sort())
    )
    # what was not there before needs no cause but its day, unless it settles what moved
    day = pl.when(~pl.col("explained")).then(pl.format("billing date {} has come", "billing_date"))
    moved = pl.when("explained").then("moved").fill_null([])
    return (
        changes.join(by_account, on="account_id", how="left", maintain_order="left")
        .with_columns(causes=pl.concat_list(day, moved).list.drop_nulls())
        .select(*CHANGES)
    )


def _deliveries_behind(
    differences: pl.DataFrame, moved: pl.DataFrame, business: Business, scratch: Business
) -> pl.DataFrame:
    """account_id, cause: the moved deliveries that hold, or held, usage of a cycle whose due amount changed."""
    over = differences.filter(pl.col("kind") == "overage").select("account_id", "metric", "cycle_start", "cycle_end")
    if over.is_empty() or moved.is_empty():
        return pl.DataFrame(schema={"account_id": pl.String, "cause": pl.String})
    first, last = over.select(month_of(pl.col("cycle_start").min()), month_of(pl.col("cycle_end").max())).row(0)
    months = months_between(first, last)
    files = moved.select("delivery_day", "file", "cause")
    day = pl.col("time").dt.convert_time_zone(scratch.catalogue.time_zone).dt.date()
    found = [
        scan_events(each.home, months, scratch.as_of)
        .join(over.lazy(), on=["account_id", "metric"])
        .filter((day >= pl.col("cycle_start")) & (day < pl.col("cycle_end")))
        .join(files.lazy(), on=["delivery_day", "file"])
        .group_by("account_id", "cause")
        .agg(events=pl.len())
        .collect(engine="streaming")
        for each in (business, scratch)
    ]
    return pl.concat(found).select("account_id", "cause").unique()


def _amount(column: str, business: Business) -> pl.Expr:
    return pl.col(column).cast(pl.Decimal(38, business.catalogue.minor_units)).cast(pl.String)
