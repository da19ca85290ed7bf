"""What accounts lack for the format of their documents, and what the format cannot say (before anything is issued)."""

from typing import Final

import polars as pl

from billing.einvoices.formats import E_INVOICES, InvoiceFormat
from billing.einvoices.limits import MAIL, currency_problem, without_rate
from billing.einvoices.requirements import FACTS, requirements, unknown_units, with_wrong_ids
from billing.einvoices.tax_categories import OUTSIDE
from billing.model.catalogue import Catalogue
from billing.model.seller import Seller

FIELD: Final = "field"
"""`kind` of a problem: a field is missing, or holds what the format does not know."""
INEXPRESSIBLE: Final = "inexpressible"
"""`kind` of a problem: the format has no place for it, whatever is filled in."""
PROBLEMS: Final = {"account_id": pl.String, "format": pl.String, "kind": pl.String, "what": pl.String}


def resolved_format(catalogue: Catalogue) -> pl.Expr:
    """`invoice_format` of accounts; that of the policy where it is null."""
    return pl.col("invoice_format").fill_null(catalogue.policy.invoice_format)


def missing_for_format(accounts: pl.DataFrame, taxes: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """What stands in the way of accounts' documents in their format: account_id, format, kind, what; sorted.

    Parameters
    ----------
    accounts
        As `Inputs.accounts`.
    taxes
        account_id, billing_date, category, exemption_reason, exemption_code, of documents that there would be; one of
        these accounts without a row is not taxed.
    """
    chosen = accounts.with_columns(format=resolved_format(catalogue)).filter(pl.col("format") != InvoiceFormat.PDF)
    nothing = pl.DataFrame(schema=PROBLEMS)
    if chosen.is_empty():
        return nothing
    facts = with_wrong_ids(_facts(chosen, taxes, catalogue))
    told = [(each.is_missing, each.asked) for each in requirements()]
    units = unknown_units([metric.unit_code for metric in catalogue.metrics])
    told += [
        (
            pl.lit(value=True),
            pl.lit(f"does not know the unit_code {metric.unit_code} of metric {metric.name} in catalogue.yaml"),
        )
        for metric in catalogue.metrics
        if metric.unit_code in units
    ]
    found = [
        facts.filter(is_missing).select("account_id", "format", kind=pl.lit(FIELD), what=asked)
        for is_missing, asked in told
    ]
    found += [_inexpressible(facts, catalogue), _several(chosen, taxes)]
    return pl.concat([nothing, *found]).unique().sort("account_id", "kind", "what")


def problems_in_words(problems: pl.DataFrame) -> pl.DataFrame:
    """account_id, detail: what stands in the way of an account's format, as one sentence."""
    return (
        problems.group_by("account_id", "format", maintain_order=True)
        .agg(pl.col("what"))
        .select("account_id", detail=pl.format("its format {} {}", "format", pl.col("what").list.join("; ")))
    )


def _inexpressible(facts: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """What no field mends: account_id, format, kind, what."""
    problem = currency_problem(catalogue.currency, catalogue.minor_units)
    keys = ["format", "category", "country"]
    said = [
        (chosen, category, country, what)
        for chosen, category, country in facts.select(keys).unique().sort(keys).iter_rows()
        for what in (problem, without_rate(InvoiceFormat(chosen), category, catalogue.seller.country, country))
        if what is not None
    ]
    told = pl.DataFrame(said, schema=[*keys, "what"], orient="row", schema_overrides=dict.fromkeys(keys, pl.String))
    return facts.join(told, on=keys, nulls_equal=True).select(
        "account_id", "format", kind=pl.lit(INEXPRESSIBLE), what=pl.col("what").cast(pl.String)
    )


def _facts(accounts: pl.DataFrame, taxes: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """`FACTS` and account_id: a row per account and tax; accounts with their `format`."""
    own = accounts.select(
        "account_id",
        *("format", "country", "tax_id", "registration", "city", "postal_code", "buyer_reference", "order_reference"),
        street="address_line1",
        electronic_address=pl.coalesce(
            "electronic_address",
            pl.when(pl.col("format") != InvoiceFormat.PEPPOL.value).then(pl.format(f"{MAIL}:{{}}", "email")),
        ),
    )
    taxed = own.join(
        taxes.select("account_id", "category", "exemption_reason", "exemption_code"),
        on="account_id",
        how="left",
        maintain_order="left",
    ).with_columns(pl.col("category").fill_null(OUTSIDE), is_to_pay=True, names_no_document=False)
    return taxed.with_columns(_of_seller(catalogue.seller)).select("account_id", *FACTS)


def _of_seller(seller: Seller) -> list[pl.Expr]:
    """What is the same for all accounts; a mail address is none for Peppol."""
    contact, mail = seller.contact, (seller.contact and seller.contact.email) or seller.support_email
    lines = [seller.street] if seller.street else [line for line in seller.address if line.strip()]
    by_mail = pl.when(pl.col("format") != InvoiceFormat.PEPPOL.value).then(_text(mail and f"{MAIL}:{mail}"))
    its = {
        "seller_country": seller.country,
        "seller_tax_id": seller.tax_id,
        "seller_tax_number": seller.tax_number,
        "seller_registration": str(seller.registration or ""),
        "seller_street": lines[0] if lines else "",
        "seller_city": seller.city,
        "seller_postal_code": seller.postal_code,
        "seller_iban": seller.bank.iban if seller.bank else "",
        "contact_name": contact.name if contact else "",
        "contact_phone": contact.phone if contact else "",
        "contact_email": mail,
    }
    address = pl.coalesce(_text(str(seller.electronic_address or "")), by_mail)
    return [*(_text(text).alias(column) for column, text in its.items()), address.alias("seller_electronic_address")]


def _text(text: str) -> pl.Expr:
    return pl.lit(text or None, dtype=pl.String)


def _several(accounts: pl.DataFrame, taxes: pl.DataFrame) -> pl.DataFrame:
    """Accounts with several taxes on one document: account_id, format, kind, what."""
    several = (
        accounts.select("account_id", "format")
        .join(taxes.filter(pl.col("category").is_not_null()), on="account_id", maintain_order="left")
        .group_by("account_id", "format", "billing_date", maintain_order=True)
        .agg(_count=pl.len())
        .filter(pl.col("_count") > 1)
    )
    what = "has one tax rate a line, and several taxes are charged together"
    return several.select("account_id", "format", kind=pl.lit(INEXPRESSIBLE), what=pl.lit(what))


def uses_e_invoices(accounts: pl.DataFrame, catalogue: Catalogue) -> bool:
    """Whether any account has another format than PDF."""
    return bool(accounts.select(resolved_format(catalogue).is_in(list(E_INVOICES)).any()).item())
