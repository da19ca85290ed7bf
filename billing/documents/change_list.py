"""The changes of package that a document names, and why they were made (rules 23 and 37)."""

import polars as pl

from billing.documents.field_texts import day, decimals_of, metric_text, plain
from billing.documents.titles import metric_title, package_title
from billing.model.catalogue import Catalogue
from billing.model.codes import PACKAGE_CHANGES, DecisionFlag, DecisionKind, Outcome
from billing.model.empty_frames import skip_if_empty
from billing.rules.own_documents import is_own_document, upgrade_id


def with_upgrades_at_once(decisions: pl.DataFrame) -> pl.DataFrame:
    """The table DECISIONS, of approved changes of packages, with those of upgrades under the id of their documents too.

    An upgrade that holds from a billing date on has no document of its own: its row there meets none.
    """
    upgrades = decisions.filter((pl.col("kind") == DecisionKind.UPGRADE) & pl.col("request_id").is_not_null())
    return pl.concat([decisions, upgrades.with_columns(subscription_id=upgrade_id())])


@skip_if_empty("documents")
def change_list(
    documents: pl.DataFrame, packages: pl.DataFrame, decisions: pl.DataFrame, catalogue: Catalogue
) -> pl.DataFrame:
    """The package change of the billing date, and why (rule 23); on the document of an upgrade at once that upgrade.

    Parameters
    ----------
    documents
        subscription_id, billing_date, language.
    packages
        The table PACKAGES of the month.
    decisions
        As `with_upgrades_at_once`.
    """
    dates = ["subscription_id", "billing_date"]
    why = decisions.filter((pl.col("outcome") == Outcome.APPROVED) & pl.col("kind").is_in(PACKAGE_CHANGES)).select(
        "subscription_id", "reason", "evidence", "flags", billing_date="effective_on"
    )
    at_once = decisions.filter(is_own_document()).select(
        "subscription_id",
        "reason",
        "evidence",
        "flags",
        billing_date="effective_on",
        closing_package="from_package",
        opening_package="to_package",
        change_reason="kind",
    )
    changed = pl.concat(
        [
            packages.filter(pl.col("change_reason").is_not_null() & pl.col("opening_package").is_not_null()).join(
                why, on=dates, how="left", maintain_order="left"
            ),
            at_once,
        ],
        how="diagonal",
    ).join(documents.select(*dates, "language"), on=dates, maintain_order="left")
    return _with_evidence(changed, catalogue)


@skip_if_empty("changed")
def _with_evidence(changed: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    dates = ["subscription_id", "billing_date"]
    before = pl.col("closing_package").fill_null(pl.col("opening_package"))
    evidence = (
        changed.select(*dates, "language", "evidence")
        .explode("evidence")
        .filter(pl.col("evidence").is_not_null())
        .unnest("evidence")
        .group_by(dates, maintain_order=True)
        .agg(
            evidence=pl.struct(
                metric="metric",
                metric_title=metric_title("metric", catalogue),
                unit=metric_text("metric", catalogue, "unit"),
                decimals=decimals_of(pl.col("metric"), catalogue),
                quantity=plain("quantity"),
                allowance=plain("allowance"),
            )
        )
    )
    entry = pl.struct(
        from_package=before,
        from_title=package_title(before, catalogue),
        to_package="opening_package",
        to_title=package_title("opening_package", catalogue),
        effective_on=day("billing_date"),
        reason="change_reason",
        why="reason",
        voids_downgrade=pl.col("flags").list.contains(DecisionFlag.VOIDS_WAITING_DOWNGRADE).fill_null(value=False),
        evidence=pl.col("evidence").fill_null([]),
    )
    return (
        changed.drop("evidence")
        .join(evidence, on=dates, how="left", maintain_order="left")
        .group_by(dates, maintain_order=True)
        .agg(changes=entry)
    )
