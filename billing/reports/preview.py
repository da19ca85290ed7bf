"""Preview: what billing a month would change, computed in a scratch copy and compared with the home.

The home is not changed. Every change has its old and new value and its cause: the delivery, request, payment or part of
the catalogue that changed since the last run (rules 19 to 22).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

import polars as pl

from billing.model.calendar import month_of, months_after
from billing.model.codes import LineKind, PostingKind
from billing.model.columns import MONEY
from billing.model.money import minor_units
from billing.model.plain_rows import plain_rows
from billing.model.tables import DECISIONS, DRAFTS, PACKAGES, PARKED
from billing.month.business import Business
from billing.month.issuing import refuse_lost_documents
from billing.month.scratch_copy import bring_up_to_date, scratch_copy
from billing.month.steps import billed_months, ingest_usage
from billing.month.true_ups import approved_refunds, month_differences
from billing.reports.preview_causes import SETTLES, with_causes
from billing.rules.own_documents import shown_subscription_id
from billing.rules.true_ups import what_is_due

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

_IN_WORDS: Final = {
    "accounts": "accounts with a change",
    "document": "documents that would be issued",
    "draft": "drafts that would stay drafts and come out differently",
    "cycle": "closed cycles whose amount due is not what was billed",
    "package": "packages that would be entered or be others",
    "decision": "decisions that would be entered or be others",
    "parked": "accounts that would be parked, or no more",
}
_SETTLED: Final = pl.struct(SETTLES)
_DIFFERENCE: Final = {"due_on": pl.Date, "due_kind": pl.String, "metric": pl.String, "due_item": pl.String}
_NOTHING: Final = pl.lit([], pl.List(pl.Struct(_DIFFERENCE)))


@dataclass(frozen=True)
class Preview:
    """What billing a month as of a day would change.

    Attributes
    ----------
    moved
        By billing month: the inputs that changed since it was built.
    changes
        As CHANGES, sorted by account.
    currency, decimals
        The catalogue's, and the decimals of its minor unit.
    others
        account_id, currency: of accounts in another one.
    """

    month: str
    as_of: date
    moved: dict[str, list[str]]
    changes: pl.DataFrame
    currency: str
    decimals: int
    others: Mapping[str, str] = field(default_factory=dict)

    def totals(self, currency: str | None = None) -> dict[str, Any]:
        """Count changes by kind, and sum documents, drafts and cycles in money; by default in the catalogue's currency.

        With accounts in other currencies, those in the given one count.
        """
        return self._totals(*self._of(currency or self.currency))

    def _of(self, currency: str) -> tuple[pl.DataFrame, int]:
        """The changes of the accounts in a currency, and its decimals."""
        if not self.others:
            return self.changes, self.decimals
        its = pl.col("account_id").replace_strict(self.others, default=self.currency, return_dtype=pl.String)
        return self.changes.filter(its == currency), minor_units(currency) or 0

    @property
    def currencies(self) -> list[str]:
        """The currencies of accounts with a change, that of the catalogue first."""
        used = {self.others.get(account, self.currency) for account in self.changes["account_id"].unique()}
        return [self.currency, *sorted(used - {self.currency})]

    @staticmethod
    def _totals(of: pl.DataFrame, decimals: int) -> dict[str, Any]:
        # Count a parked account once, not once per month.
        changes = pl.when(pl.col("what") == "parked").then(pl.col("account_id").n_unique()).otherwise(pl.len()).first()
        sums = of.group_by("what").agg(changes=changes, difference=pl.col("difference").sum())
        by_kind = {row["what"]: row for row in plain_rows(sums, decimals)}
        nothing = plain_rows(pl.DataFrame({"difference": [0]}).cast(MONEY), decimals)[0]
        empty = {"changes": 0, **nothing}
        return {
            "accounts": of["account_id"].n_unique(),
            **{
                what: {key: value for key, value in by_kind.get(what, empty).items() if key != "what"}
                if what in (PostingKind.DOCUMENT, "draft", "cycle")
                else by_kind.get(what, empty)["changes"]
                for what in _ORDER
                if what != "line"
            },
        }

    def in_words(self) -> list[str]:
        """The totals that are not zero, for a person to read."""
        texts = []
        for currency in self.currencies:
            for what, total in self.totals(currency).items():
                count = total["changes"] if isinstance(total, dict) else total
                if count:
                    sums = f", {currency} {total['difference']} together" if isinstance(total, dict) else ""
                    whose = f" in {currency}" if self.others and not sums else ""
                    texts.append(f"{_IN_WORDS[what]}{whose}: {count}{sums}")
        return texts

    def rows(self) -> list[dict[str, Any]]:
        """The changes as plain values."""
        shown = self.changes.with_columns(shown_subscription_id())
        if not self.others:
            return plain_rows(shown, self.decimals)
        codes = [self.others.get(account, self.currency) for account in shown["account_id"]]
        return plain_rows(shown, [minor_units(code) or 0 for code in codes])

    def as_plain(self) -> dict[str, Any]:
        """month, as_of, currency, moved, totals, accounts (account_id, changes): the whole preview as plain values."""
        accounts: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows():
            accounts.setdefault(row.pop("account_id"), []).append(row)
        return {
            "month": self.month,
            "as_of": self.as_of.isoformat(),
            "currency": self.currency,
            "moved": self.moved,
            "totals": self.totals(),
            **({"totals_by_currency": {code: self.totals(code) for code in self.currencies}} if self.others else {}),
            "accounts": [{"account_id": account, "changes": changes} for account, changes in accounts.items()],
        }


def preview_month(business: Business, month: str, progress: Callable[[str, int, int], None] | None = None) -> Preview:
    """What `bill` would change for a month and all before it, as of the business's day.

    For a day before the latest `issued_on` nothing can be issued: show drafts and differences only.

    Raises
    ------
    RefusedError
        When issuing would be refused: the register is older than the documents.
    """
    latest = business.register.latest_issued_on()
    issues = latest is None or business.as_of >= latest
    if issues:
        refuse_lost_documents(business)
    with scratch_copy(business, business.as_of, issues=issues) as scratch:
        ingest_usage(scratch, progress)
        moved = bring_up_to_date(scratch, month, progress)
        months = billed_months(scratch, month)
        # Compare with the real register, before the scratch copy issues anything.
        known = scratch.at(scratch.as_of, register=business.register)
        since, before = scratch.first_month or month, months_after(month, 1)
        differences = month_differences(known, since, before, later=scratch.register)
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
        columns = [*(name for name in CHANGES if name != "causes"), "settles", "comes"]
        changes = pl.concat(part.select(columns) for part in parts)
        # A known request is answered when its day comes.
        answered = (pl.col("what") == "decision") & pl.col("old").is_null() & (pl.col("causes").list.len() == 0)
        has_come = pl.concat_list(pl.format("billing date {} has come", "billing_date"))
        caused = (
            with_causes(changes, differences, business, scratch)
            .with_columns(causes=pl.when(answered).then(has_come).otherwise("causes"))
            .sort("account_id", rank, "billing_date", "subscription_id", "item", maintain_order=True)
            .select(*CHANGES)
        )
    catalogue = business.catalogue
    others = dict(business.currencies.accounts.iter_rows())
    return Preview(month, business.as_of, moved, caused, catalogue.currency, catalogue.minor_units, others)


def _documents(business: Business, scratch: Business) -> pl.DataFrame:
    """Documents that would be issued; `old` is the total of the draft there is now."""
    issued = _newly_issued(business, scratch)
    months = issued["billing_month"].unique().to_list()
    lines = scratch.register.lines(months).filter(pl.col("kind") == LineKind.PRIOR_CYCLE)
    settling = lines.group_by("number").agg(settles=_SETTLED)
    drafts = _stored_drafts(business, months)
    documents = issued.join(drafts, on=["subscription_id", "billing_date", "corrects"], how="left", nulls_equal=True)
    return (
        documents.join(settling, on="number", how="left")
        .with_columns(pl.col("settles").fill_null(_NOTHING))
        .with_columns(
            what=pl.lit(PostingKind.DOCUMENT),
            item=pl.format("{} {}", "number", pl.col("kind").str.replace("_", " ")),
            old=_amount("draft_total", business),
            new=_amount("total", business),
            difference="total",
            comes=pl.when(pl.col("settles").list.len() == 0).then("comes"),
        )
    )


def _newly_issued(business: Business, scratch: Business) -> pl.DataFrame:
    issued = scratch.register.documents().join(business.register.documents().select("number"), on="number", how="anti")
    return _with_what_comes(issued, scratch, "billing date {} has come")


def _with_what_comes(documents: pl.DataFrame, scratch: Business, words: str) -> pl.DataFrame:
    """Add `comes` to `documents`: the cause when no input changed, a billing date or a refund."""
    refunds = approved_refunds(scratch).select("subscription_id", refund="request_id").unique("subscription_id")
    refund = pl.when(pl.col("corrects").is_not_null()).then(pl.format("request {} is new", "refund"))
    return documents.join(refunds, on="subscription_id", how="left", maintain_order="left").with_columns(
        comes=pl.coalesce(refund, pl.format(words, "billing_date"))
    )


def _stored_drafts(business: Business, months: list[str]) -> pl.DataFrame:
    found = business.scan_months(DRAFTS, months).select(
        "subscription_id", "billing_date", "corrects", draft_total="total", draft_hash="content_hash"
    )
    return found.collect()


def _drafts(business: Business, scratch: Business, months: list[str]) -> pl.DataFrame:
    """Drafts that would stay drafts, if they differ from the current ones."""
    keys = ["subscription_id", "billing_date", "corrects"]
    now = _stored_drafts(business, months)
    then = _with_what_comes(
        scratch.scan_months(DRAFTS, months).drop("content").collect(), scratch, "billing date {} is to come"
    )
    changed = then.join(now, on=keys, how="left", nulls_equal=True).filter(
        pl.col("content_hash").ne_missing(pl.col("draft_hash"))
    )
    return changed.with_columns(
        what=pl.lit("draft"),
        item=pl.col("kind").str.replace("_", " "),
        old=_amount("draft_total", business),
        new=_amount("total", business),
        difference=pl.col("total") - pl.col("draft_total").fill_null(0),
        settles=_NOTHING,
        comes=pl.when(pl.col("draft_total").is_null()).then("comes"),
    )


def _lines(business: Business, scratch: Business) -> pl.DataFrame:
    """The lines of the documents that would be issued."""
    issued = _newly_issued(business, scratch)
    lines = scratch.register.lines(issued["billing_month"].unique().to_list())
    keys = ["number", "account_id", "subscription_id", "billing_month", "billing_date", "comes"]
    settles = pl.col("kind") == LineKind.PRIOR_CYCLE
    return lines.join(issued.select(keys), on="number").with_columns(
        what=pl.lit("line"),
        item=pl.format("{} line {}: {}", "number", "line", "description"),
        old=pl.lit(None, pl.String),
        new=_amount("amount", business),
        difference="amount",
        settles=pl.when(settles).then(pl.concat_list(_SETTLED)).fill_null(_NOTHING),
        comes=pl.when(~settles).then("comes"),
    )


def _cycles(differences: pl.DataFrame, scratch: Business) -> pl.DataFrame:
    """Closed billing dates whose due amount is not what was issued; issued and due side by side."""
    return differences.with_columns(
        what=pl.lit("cycle"),
        billing_month=month_of(pl.col("billing_date")),
        # A one-off charge has no cycle.
        item=pl.concat_str(
            what_is_due(scratch.catalogue),
            pl.format(", cycle {} to {}", "cycle_start", "cycle_end").fill_null(""),
        ),
        old=_amount("issued", scratch),
        new=_amount("due", scratch),
        difference=pl.col("due") - pl.col("issued"),
        settles=pl.concat_list(pl.struct(due_on="billing_date", due_kind="kind", metric="metric", due_item="due_item")),
        comes=pl.lit(None, pl.String),
    )


def _packages(business: Business, scratch: Business, months: list[str]) -> pl.DataFrame:
    text = pl.concat_str(
        pl.col("closing_package").fill_null("start"),
        pl.lit(" -> "),
        pl.col("opening_package").fill_null("end"),
        pl.format(" ({})", "status"),
    )
    keys, comes = ["subscription_id", "billing_date"], pl.format("billing date {} has come", "billing_date")
    changed = _compared(
        business, scratch=scratch, months=months, table=PACKAGES, keys=keys, text=text, what="package", comes=comes
    )
    # A package reappears on a closed date after its account was parked.
    closed = business.register.closed_dates().select(*keys, was_closed=pl.lit(True))
    return changed.join(closed, on=keys, how="left", maintain_order="left").with_columns(
        comes=pl.when(pl.col("was_closed").is_null()).then("comes")
    )


def _decisions(business: Business, scratch: Business, months: list[str]) -> pl.DataFrame:
    text = pl.concat_str(
        "outcome",
        pl.format(" ({})", "reason"),
        pl.format(": {}", "to_package"),
        pl.format(" from {}", "effective_on"),
        ignore_nulls=True,
    )
    is_automatic = pl.col("request_id").is_null()
    comes = pl.when(is_automatic).then(pl.format("billing date {} has come", "decided_on"))
    changed = _compared(
        business,
        scratch=scratch,
        months=months,
        table=DECISIONS,
        keys=["decision_id"],
        text=text,
        what="decision",
        comes=comes,
    )
    item = pl.concat_str(pl.col("kind").str.replace("_", " "), pl.format(" {}", "request_id"), ignore_nulls=True)
    return changed.with_columns(billing_date="decided_on", item=item)


def _parked(business: Business, scratch: Business, months: list[str]) -> pl.DataFrame:
    keys, reason, nothing = ["billing_month", "account_id"], pl.col("reason"), pl.lit(None, pl.String)
    changed = _compared(
        business, scratch=scratch, months=months, table=PARKED, keys=keys, text=reason, what="parked", comes=nothing
    )
    nobodys = {"subscription_id": pl.lit(None, pl.String), "billing_date": pl.lit(None, pl.Date)}
    return changed.with_columns(**nobodys, item=pl.col("billing_month"))


def _compared(
    business: Business,
    *,
    scratch: Business,
    months: list[str],
    table: Any,
    keys: list[str],
    text: pl.Expr,
    what: str,
    comes: pl.Expr,
) -> pl.DataFrame:
    """Rows of a table whose `text` would change, or that would appear or disappear.

    `comes` is the cause of a row that appears although no input changed.
    """
    old, new = (view.scan_months(table, months).with_columns(text=text).collect() for view in (business, scratch))
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
            settles=_NOTHING,
            comes=pl.when(pl.col("text_old").is_null()).then(comes),
        )
    )


def _amount(column: str, business: Business) -> pl.Expr:
    codes = business.inputs.currencies or (business.catalogue.currency,)
    by_places: dict[int, list[str]] = {}
    for code in codes:
        by_places.setdefault(minor_units(code) or 0, []).append(code)
    texts = {places: pl.col(column).cast(pl.Decimal(38, places)).cast(pl.String) for places in by_places}
    if len(texts) == 1:
        return next(iter(texts.values()))
    its = pl.col("account_id").replace_strict(
        dict(business.currencies.accounts.iter_rows()), default=business.catalogue.currency, return_dtype=pl.String
    )
    return pl.coalesce(pl.when(its.is_in(by_places[places])).then(text) for places, text in texts.items())
