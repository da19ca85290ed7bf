"""What was given to the last complete run: kept, so that a preview can say which input moved since."""

from typing import Final

import polars as pl

from billing.business import Business
from billing.home import write_file
from billing.ingest.state import read_state
from billing.inputs import ACCOUNT_COLUMNS, REQUEST_MEMBERS

_GIVEN: Final = pl.Schema(
    {
        "kind": pl.String(),
        "key": pl.String(),
        "account_id": pl.String(),
        "package": pl.String(),
        "delivery_day": pl.Date(),
        "file": pl.String(),
        "content": pl.String(),
    }
)
_PAYMENT: Final = ("payment_id", "account_id", "document", "at", "amount", "currency", "status")


def record_given(business: Business) -> None:
    """Remember what is given now, in the lake: every month is built from it."""
    given = given_now(business)
    write_file(business.home.lake / "given.parquet", lambda path: given.write_parquet(path))


def moved_given(business: Business, now: Business) -> pl.DataFrame:
    """What moved between what `business` last recorded and what is given `now`.

    Returns
    -------
    polars.DataFrame
        kind (delivery, request, payment, account, catalogue, tax_rates), account_id (null where it is not one
        account's), package (of a part of the catalogue), delivery_day, file, cause (words); sorted.
    """
    path = business.home.lake / "given.parquet"
    before = pl.read_parquet(path) if path.exists() else pl.DataFrame(schema=_GIVEN)
    both = given_now(now).join(before, on=["kind", "key"], how="full", coalesce=True, suffix="_before")
    moved = both.filter(pl.col("content").ne_missing(pl.col("content_before")))
    change = (
        pl.when(pl.col("content_before").is_null())
        .then(pl.lit("is new"))
        .when(pl.col("content").is_null())
        .then(pl.lit("is gone"))
        .otherwise(pl.lit("has changed"))
    )
    return moved.select(
        "kind",
        *(pl.coalesce(name, f"{name}_before") for name in ("account_id", "package", "delivery_day", "file")),
        cause=pl.format("{} {} {}", pl.col("kind").str.replace("_", " "), "key", change),
    ).sort("kind", "cause")


def given_now(business: Business) -> pl.DataFrame:
    """kind, key, account_id, package, delivery_day, file, content of everything that is given up to the as-of day."""
    inputs = business.inputs
    parts = [
        _deliveries(business),
        _rows(business.requests, "request", "request_id", REQUEST_MEMBERS),
        _rows(inputs.payments.filter(pl.col("on") <= business.as_of), "payment", "payment_id", _PAYMENT),
        _rows(inputs.accounts, "account", "account_id", ACCOUNT_COLUMNS),
        _catalogue(business),
        pl.DataFrame({"kind": "tax_rates", "key": "table", "content": inputs.tax_rates.write_json()}),
    ]
    return pl.concat([pl.DataFrame(schema=_GIVEN), *parts], how="diagonal").sort("kind", "key")


def _deliveries(business: Business) -> pl.DataFrame:
    state = read_state(business.home)
    rows = [
        {"delivery_day": day, "file": name, "content": file.sha256}
        for day, found in (state.days.items() if state else ())
        for name, file in found.files.items()
        if day <= business.as_of
    ]
    frame = pl.DataFrame(rows, schema={"delivery_day": pl.Date, "file": pl.String, "content": pl.String})
    return frame.with_columns(kind=pl.lit("delivery"), key=pl.format("{}/{}", "delivery_day", "file"))


def _rows(frame: pl.DataFrame, kind: str, key: str, members: tuple[str, ...]) -> pl.DataFrame:
    return frame.select(
        "account_id",
        kind=pl.lit(kind),
        key=pl.col(key),
        content=pl.struct(pl.col(name).cast(pl.String) for name in members).struct.json_encode(),
    )


def _catalogue(business: Business) -> pl.DataFrame:
    """The parts of the catalogue: each version of a package, each agreement, and what holds for everyone."""
    catalogue = business.catalogue
    versions = [
        {
            "key": f"package {package.name}, version of {terms.effective_from}",
            "package": package.name,
            "content": repr((package.rank, terms)),
        }
        for package in catalogue.packages
        for terms in package.versions
    ]
    agreements = [
        {
            "key": f"agreement of {agreement.account_id} on {agreement.package} from {agreement.effective_from}",
            "account_id": agreement.account_id,
            "content": repr(agreement),
        }
        for agreement in catalogue.agreements
    ]
    common = [
        {"key": "metrics", "content": repr(catalogue.metrics)},
        {"key": "policy", "content": repr(catalogue.policy)},
        {"key": "currency and time zone", "content": f"{catalogue.currency} {catalogue.time_zone}"},
        {"key": "seller", "content": repr(catalogue.seller)},
    ]
    frame = pl.DataFrame(
        [*versions, *agreements, *common],
        schema={"key": pl.String, "package": pl.String, "account_id": pl.String, "content": pl.String},
    )
    return frame.with_columns(kind=pl.lit("catalogue"))
