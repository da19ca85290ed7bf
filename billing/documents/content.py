"""The content of a document, version 2: everything its page shows, as fields, stored when it is issued (rules 19, 40).

Rule 23: it says what exceeded, at which price and why, and answers "why is it higher this month?" on its own. Words are
left to the catalogue of its language where a code says it.
"""

from typing import Final

import polars as pl

from billing.documents.content_lists import KEYS, PIECE
from billing.documents.field_texts import day, money_text
from billing.documents.joined import joined
from billing.documents.tax_currency import TAX_CURRENCY
from billing.documents.titles import package_title, with_own_language
from billing.model.catalogue import Catalogue
from billing.model.empty_frames import skip_if_empty
from billing.model.money import minor_units
from billing.model.seller import Identifier
from billing.model.tables import CYCLES
from billing.rules.own_documents import shown_subscription_id
from billing.rules.prepaid_credits import is_prepayment

TEMPLATE_VERSION: Final = "2"

_IDENTIFIER: Final = pl.Struct({"scheme": pl.String, "id": pl.String})
_PDF: Final = "pdf"
_CORRECTED: Final = pl.Struct({"number": pl.String, "issued_on": pl.String, "billing_date": pl.String})


@skip_if_empty("documents")
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
    """The keys, `payment_days` and `content`: one line of JSON that begins with number, issued_on and due_on.

    Parameters
    ----------
    documents
        As drafted; of a note also corrected (number, issued_on, billing_date of the document that it corrects) and
        reason_code.
    parts
        Lists of the page, by the documents' keys; of lines, usage and taxes as JSON. A missing one is empty there.
    """
    frame = documents.drop("language", strict=False)
    for part in parts:
        on = [key for key in KEYS if key in part.columns]
        frame = joined(frame, part, on)
    missing: dict[str, pl.Expr] = {
        "usage": pl.lit("[]"),
        "changes": pl.lit([], pl.List(pl.Struct({}))),
        "taxes": pl.lit("[]"),
        "comparison": pl.lit(None, pl.String),
        "tax_currency": pl.lit(None, TAX_CURRENCY),
        "corrected": pl.lit(None, _CORRECTED),
        "reason_code": pl.lit(None, pl.String),
    }
    frame = frame.with_columns(value.alias(name) for name, value in missing.items() if name not in frame.columns)
    cycles = CYCLES.empty() if cycles is None else cycles
    opening = pl.coalesce("opening_package", "closing_package")
    dates = ["subscription_id", "billing_date"]
    for found, on in (
        (accounts, ["account_id"]),
        (subscriptions.select("subscription_id", "started_on", "term"), dates[:1]),
        (cycles.select(*dates, "next_billing_date", "is_last"), dates),
        (packages.select(*dates, package=opening), dates),
    ):
        frame = joined(frame, found, on)
    frame = with_own_language(frame, catalogue).with_columns(
        payment_days=pl.col("payment_days").fill_null(catalogue.policy.payment_days).cast(pl.Int16)
    )
    text = pl.concat_str(pl.lit("{"), pl.concat_str(_page(catalogue), separator=","), pl.lit("}"))
    written = [piece.select(*KEYS, "payment_days", content=text) for piece in frame.iter_slices(PIECE)]
    return pl.concat([frame.clear().select(*KEYS, "payment_days", content=pl.lit("")), *written])


def _page(catalogue: Catalogue) -> list[pl.Expr]:
    """All members of a page's JSON object, in their order."""
    return [
        _members(
            number=pl.lit(None, pl.String),
            issued_on=pl.lit(None, pl.String),
            due_on=pl.lit(None, pl.String),
            template_version=pl.lit(TEMPLATE_VERSION),
            kind=pl.col("kind"),
            billing_month=pl.col("billing_month"),
            billing_date=day("billing_date"),
            currency=pl.col("currency"),
            minor_units=pl.lit(minor_units(catalogue.currency)),
            locale=pl.col("locale"),
            language=pl.col("language"),
            # rule 33: a prepayment is no supply yet, and always a PDF.
            format=pl.when(is_prepayment())
            .then(pl.lit(_PDF))
            .otherwise(pl.col("invoice_format").fill_null(catalogue.policy.invoice_format)),
            payment_days=pl.col("payment_days"),
            corrects=pl.col("corrects"),
            corrected=pl.col("corrected"),
            reason=pl.col("reason"),
            reason_code=pl.col("reason_code"),
            resources=_resources(catalogue),
        ),
        # Constant on every page: serialize it once.
        pl.lit(pl.select(_seller(catalogue)).item()),
        _customer(),
        _members(
            subscription=pl.struct(
                subscription_id=shown_subscription_id(),
                package="package",
                package_title=package_title("package", catalogue),
                term="term",
                started_on=day("started_on"),
                next_billing_date=pl.when(pl.col("is_last").eq_missing(other=False)).then(day("next_billing_date")),
            )
        ),
        pl.format('"lines":{}', "lines"),
        pl.format('"usage":{}', pl.col("usage").fill_null("[]")),
        _members(
            changes=pl.col("changes").fill_null([]),
            comparison=pl.col("comparison"),
        ),
        pl.format('"taxes":{}', pl.col("taxes").fill_null("[]")),
        _members(
            tax_currency=pl.col("tax_currency"),
            net=money_text("net", catalogue),
            tax=money_text("tax", catalogue),
            total=money_text("total", catalogue),
            credits_applied=money_text("credits_applied", catalogue),
            due=money_text("due", catalogue),
            notes=pl.lit([], pl.List(pl.String)),
        ),
    ]


def _resources(catalogue: Catalogue) -> pl.Expr:
    """Hashes of the files that the page is drawn with."""
    of = catalogue.resources
    translation = pl.lit(None, pl.String)
    if of.translations:
        tag = pl.col("language")
        translation = pl.coalesce(
            each.replace_strict(dict(of.translations), default=None, return_dtype=pl.String)
            for each in (tag, tag.str.extract("^([a-z]+)"))
        )
    return pl.struct(logo=pl.lit(of.logo, pl.String), template=pl.lit(of.template, pl.String), translation=translation)


def _customer() -> pl.Expr:
    def said(column: str) -> pl.Expr:
        return pl.col(column).fill_null("")

    return pl.concat_str(
        _members(
            customer=pl.struct(
                account_id="account_id",
                name=pl.coalesce("name", "account_id"),
                email=said("email"),
                street=said("address_line1"),
                line2=said("address_line2"),
                city=said("city"),
                region=said("region"),
                postal_code=said("postal_code"),
                country=said("country"),
                tax_id=said("tax_id"),
                registration=_identifier(pl.col("registration")),
                electronic_address=_identifier(pl.col("electronic_address")),
            )
        ),
        _members(order_reference=said("order_reference"), buyer_reference=said("buyer_reference")),
        separator=",",
    )


def _identifier(text: pl.Expr) -> pl.Expr:
    """scheme and id of a text such as 9930:DE123456789, as `read_identifier`."""
    parts = text.str.splitn(":", 2)
    both = pl.struct(scheme=parts.struct.field("field_0"), id=parts.struct.field("field_1"))
    return pl.when(text.is_not_null()).then(both)


def _seller(catalogue: Catalogue) -> pl.Expr:
    seller = catalogue.seller
    contact, bank = seller.contact, seller.bank
    texts = {name: pl.lit(getattr(seller, name)) for name in ("name", "street", "city", "postal_code", "region")}
    return _members(
        seller=pl.struct(
            *(text.alias(name) for name, text in texts.items()),
            country=pl.lit(seller.country),
            address=pl.lit(list(seller.address), pl.List(pl.String)),
            tax_id=pl.lit(seller.tax_id),
            tax_number=pl.lit(seller.tax_number),
            registration=_constant(seller.registration),
            electronic_address=_constant(seller.electronic_address),
            contact=pl.lit(None, pl.String)
            if contact is None
            else pl.struct(name=pl.lit(contact.name), phone=pl.lit(contact.phone), email=pl.lit(contact.email)),
            support_email=pl.lit(seller.support_email),
            billing_policy_url=pl.lit(seller.billing_policy_url),
            bank=pl.lit(None, pl.String)
            if bank is None
            else pl.struct(holder=pl.lit(bank.holder), iban=pl.lit(bank.iban), bic=pl.lit(bank.bic)),
            pay_url=pl.lit(seller.pay_url),
            footer=pl.lit(list(seller.footer), pl.List(pl.String)),
            accent=pl.lit(seller.accent),
        )
    )


def _constant(identifier: Identifier | None) -> pl.Expr:
    if identifier is None:
        return pl.lit(None, _IDENTIFIER)
    return pl.struct(scheme=pl.lit(identifier.scheme), id=pl.lit(identifier.id))


def _members(**values: pl.Expr) -> pl.Expr:
    """Members of a JSON object, without braces: serializing them in parts is faster than one large struct."""
    named = [value.alias(name) for name, value in values.items()]
    return pl.struct(named).struct.json_encode().str.strip_prefix("{").str.strip_suffix("}")
