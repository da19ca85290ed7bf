"""The content of a document: everything its page shows, stored when it is issued (rule 19).

Rule 23: it says what exceeded, at which price and why, and answers "why is it higher this month?" on its own.
"""

from collections.abc import Sequence
from typing import Final

import polars as pl

from billing.documents.content_lists import KEYS, PIECE, day, money_text, package_title
from billing.model.catalogue import Catalogue
from billing.model.money import minor_units
from billing.model.tables import CYCLES

TEMPLATE_VERSION: Final = "1"

# Leave out nulls of members that were added later: stored documents keep their bytes.
_NOT_SAID: Final = (',"settles":null', ',"part":null', ',"bounds":null', ',"gives_back":null', ',"taxed_as":null')


def contents(
    documents: pl.DataFrame,
    *,
    parts: list[pl.DataFrame],
    subscriptions: pl.DataFrame,
    cycles: pl.DataFrame | None,
    packages: pl.DataFrame,
    accounts: pl.DataFrame,
    catalogue: Catalogue,
) -> pl.DataFrame:
    """The keys and `content`: everything the page shows, as one line of JSON that begins with number and issued_on.

    `parts` are lists of the page, by the documents' keys; a missing list is empty on the page.
    """
    frame = documents
    for part in parts:
        on = [key for key in KEYS if key in part.columns]
        frame = frame.join(part, on=on, how="left", maintain_order="left")
    missing: dict[str, list[object] | None] = {
        "usage": [],
        "changes": [],
        "taxes": [],
        "comparison": None,
        "tax_note": None,
    }
    frame = frame.with_columns(
        pl.lit(value, pl.List(pl.Struct({})) if value == [] else pl.String).alias(name)
        for name, value in missing.items()
        if name not in frame.columns
    )
    cycles = CYCLES.empty() if cycles is None else cycles
    opening = pl.coalesce("opening_package", "closing_package")
    frame = (
        frame.join(accounts, on="account_id", how="left", maintain_order="left")
        .join(
            subscriptions.select("subscription_id", "started_on", "term"),
            on="subscription_id",
            how="left",
            maintain_order="left",
        )
        .join(
            cycles.select("subscription_id", "billing_date", "next_billing_date", "is_last"),
            on=["subscription_id", "billing_date"],
            how="left",
            maintain_order="left",
        )
        .join(
            packages.select("subscription_id", "billing_date", package=opening),
            on=["subscription_id", "billing_date"],
            how="left",
            maintain_order="left",
        )
    )
    text = pl.concat_str(pl.lit("{"), _page(catalogue), pl.lit("}"))
    written = [piece.select(*KEYS, content=text) for piece in frame.iter_slices(PIECE)]
    return pl.concat([frame.clear().select(*KEYS, content=pl.lit("")), *written])


def _page(catalogue: Catalogue) -> pl.Expr:
    """All members of a page's JSON object, in their order."""
    return pl.concat_str(
        _members(
            number=pl.lit(None, pl.String),
            issued_on=pl.lit(None, pl.String),
            template_version=pl.lit(TEMPLATE_VERSION),
            kind=pl.col("kind"),
            billing_month=pl.col("billing_month"),
            billing_date=day("billing_date"),
            currency=pl.col("currency"),
            minor_units=pl.lit(minor_units(catalogue.currency)),
            locale=pl.col("locale").fill_null("en_US"),
            corrects=pl.col("corrects"),
            reason=pl.col("reason"),
        ),
        # Constant on every page: serialize it once.
        pl.lit(pl.select(_seller(catalogue)).item()),
        _customer(),
        _members(
            subscription=pl.struct(
                subscription_id="subscription_id",
                package="package",
                package_title=package_title("package", catalogue),
                term="term",
                started_on=day("started_on"),
                next_billing_date=pl.when(pl.col("is_last").eq_missing(other=False)).then(day("next_billing_date")),
            )
        ),
        _without(_NOT_SAID, _members(lines=pl.col("lines"))),
        _members(
            usage=pl.col("usage").fill_null([]),
            changes=pl.col("changes").fill_null([]),
            comparison=pl.col("comparison"),
        ),
        _without(_NOT_SAID, _members(taxes=pl.col("taxes").fill_null([]))),
        _members(
            tax_note=pl.col("tax_note"),
            net=money_text("net", catalogue),
            tax=money_text("tax", catalogue),
            total=money_text("total", catalogue),
            notes=pl.lit([], pl.List(pl.String)),
        ),
        separator=",",
    )


def _customer() -> pl.Expr:
    return _members(
        customer=pl.struct(
            account_id="account_id",
            name=pl.coalesce("name", "account_id"),
            email=pl.col("email").fill_null(""),
            # Leave out nulls, too.
            address=pl.concat_list(
                "address_line1",
                "address_line2",
                pl.concat_str("postal_code", "city", "region", separator=" ", ignore_nulls=True),
            ).list.filter(pl.element() != ""),
            country=pl.col("country").fill_null(""),
            tax_id=pl.col("tax_id").fill_null(""),
        )
    )


def _seller(catalogue: Catalogue) -> pl.Expr:
    seller = catalogue.seller
    return _members(
        seller=pl.struct(
            name=pl.lit(seller.name),
            address=pl.lit(list(seller.address), pl.List(pl.String)),
            country=pl.lit(seller.country),
            tax_id=pl.lit(seller.tax_id),
            support_email=pl.lit(seller.support_email),
            billing_policy_url=pl.lit(seller.billing_policy_url),
        )
    )


def _members(**values: pl.Expr) -> pl.Expr:
    """Members of a JSON object, without braces: serializing them in parts is faster than one large struct."""
    named = [value.alias(name) for name, value in values.items()]
    return pl.struct(named).struct.json_encode().str.strip_prefix("{").str.strip_suffix("}")


def _without(phrases: Sequence[str], text: pl.Expr) -> pl.Expr:
    for phrase in phrases:
        text = text.str.replace_all(phrase, "", literal=True)
    return text
