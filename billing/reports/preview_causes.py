"""Causes of a preview: the changed inputs behind each change of an account.

Settlements of earlier cycles, and parking, are compared with the inputs as of the account's last settlement, everything
else with the inputs of the last run.
"""

from datetime import date, timedelta
from typing import Any, Final

import polars as pl

from billing.ingest.aliases import ALIAS, with_accounts
from billing.ingest.events import scan_delivered_events, scan_events
from billing.ingest.parsed_files import FileVersion
from billing.ingest.parsed_locations import ParsedFolder, Place
from billing.ingest.parsed_rows import ALIAS_KIND, PARSED
from billing.ingest.state import read_state
from billing.model.calendar import month_of, months_after
from billing.model.codes import LineKind
from billing.model.tables import CYCLES, PACKAGES, PARKED
from billing.month.business import Business
from billing.month.recorded_inputs.months import built_months
from billing.month.recorded_inputs.rows import Moved, moved_rows, record_rows
from billing.month.true_ups import month_differences
from billing.rules.missing_accounts import that_waited
from billing.store.home import Home

SETTLES: Final = ["due_on", "due_kind", "metric", "due_item"]
"""What names a difference of a subscription: its billing date and IDENTITY."""

# These affect drafts, never amounts due on closed billing dates.
_OF_DRAFTS_ONLY: Final = (pl.col("kind") == "tax_rates") | (pl.col("key") == "seller")
_CAUSED: Final = ["place", "cause"]
_WINDOW: Final = ["place", "account_id", "group", "metric"]


def record_given(business: Business) -> None:
    """Record the inputs of a run that updated every month, and the accounts it left unsettled.

    A run as of a day before the latest documents records nothing.
    """
    latest = business.register.latest_issued_on()
    if latest is not None and business.as_of < latest:
        return
    moved = moved_rows(business.home, business)
    if moved.inputs.height or moved.groups.height:
        record_rows(business, moved, _unsettled(business))


def with_causes(
    changes: pl.DataFrame, differences: pl.DataFrame, business: Business, scratch: Business
) -> pl.DataFrame:
    """Add the causes of every change.

    Parameters
    ----------
    changes
        account_id, subscription_id, billing_month, billing_date, what, new; settles (a list of SETTLES: the differences
        that a cycle, a line or a document is about) and comes (why it would be there though nothing moved; else null).
    differences
        As `open_differences`.

    Returns
    -------
    polars.DataFrame
        `changes` with `causes`, sorted texts: changed inputs, or the billing date that has come.
    """
    moved = moved_rows(business.home, scratch)
    rows = changes.with_row_index("row")
    settled = _settled(rows, differences, moved, business, scratch)
    redone = rows.filter(pl.col("comes").is_null() & (pl.col("settles").list.len() == 0))
    found = (
        pl.concat([settled, _causes_of_changed_rows(redone, moved, business, scratch)])
        .unique()
        .group_by("row")
        .agg(causes=pl.col("cause").sort())
    )
    moved_or_nothing = pl.col("causes").fill_null(pl.lit([], pl.List(pl.String)))
    return (
        rows.join(found, on="row", how="left", maintain_order="left")
        .with_columns(
            causes=pl.when(pl.col("comes").is_null()).then(moved_or_nothing).otherwise(pl.concat_list("comes"))
        )
        .drop("row")
    )


def _unsettled(business: Business) -> pl.Series:
    """The ids of accounts with a difference that waits, or that are parked and may have one."""
    built = built_months(business)
    if not built or business.first_month is None:
        return business.parked["account_id"]
    differences = month_differences(business, business.first_month, months_after(built[-1], 1))
    parked = business.scan_months(PARKED, built).select("account_id").collect()
    return pl.concat([differences["account_id"], parked["account_id"], business.parked["account_id"]])


def _settled(
    rows: pl.DataFrame, differences: pl.DataFrame, moved: Moved, business: Business, scratch: Business
) -> pl.DataFrame:
    """row, cause of the rows that settle differences."""
    places = (
        differences.with_row_index("place")
        .join(moved.groups, on="account_id", how="left")
        .with_columns(pl.col("group").fill_null(0))
    )
    # A changed account row does not affect amounts due; a new one makes the account's usage valid.
    changed = (pl.col("kind") == "account") & pl.col("before").is_not_null() & pl.col("now").is_not_null()
    inputs = moved.inputs.filter(~_OF_DRAFTS_ONLY & ~changed)
    gauges = [metric.name for metric in scratch.catalogue.metrics if metric.kind == "gauge"]
    # The level of a gauge is carried forward from before the cycle.
    since = pl.when(~pl.col("metric").is_in(gauges)).then("cycle_start")
    is_minimum = pl.col("kind") == LineKind.MINIMUM_SPEND
    metrics = pl.DataFrame({"metric": [metric.name for metric in scratch.catalogue.metrics]})
    # A minimum counts the overages of all metrics.
    counting = places.filter(is_minimum).drop("metric").join(metrics, how="cross").select(places.columns)
    windows = pl.concat(
        [
            pl.concat([places.filter(pl.col("kind") == LineKind.OVERAGE), counting]).select(
                *_WINDOW, since=since, until="cycle_end"
            ),
            *_windows_of_offers(places, metrics, since),
        ]
    )
    # rule 2: rate usage by the version at the start of its cycle, fees by the version at their date
    is_added = (pl.col("kind") == LineKind.PRORATION) & pl.col("metric").is_not_null()
    is_of_closed = pl.col("kind").is_in([LineKind.OVERAGE, LineKind.MINIMUM_SPEND]) | is_added
    is_coupon = pl.col("kind") == LineKind.COUPON
    day = pl.when(is_of_closed).then("cycle_start").when(~is_coupon).then("billing_date")
    priced_as = pl.col("kind").replace({LineKind.PRORATION: LineKind.PACKAGE_FEE})
    priced_as = pl.when(is_added).then(pl.lit(LineKind.SEATS)).otherwise(priced_as)
    part = pl.when(pl.col("metric").is_null()).then(priced_as).otherwise(pl.format("{} of {}", priced_as, "metric"))
    # A minimum depends on every price of its package, and so does what a coupon takes off.
    part = pl.when(~is_minimum & ~is_coupon).then(part)
    sold = places.select("place", "package")
    # The difference of two yearly fees depends on the other package's fee, too.
    other_fee = (
        places.filter(pl.col("replaced_fee").is_not_null() & ~is_minimum)
        .select("place")
        .join(_packages(inputs), how="cross")
    )
    sold = pl.concat([sold, other_fee]).unique()
    caused = _caused(places.with_columns(day=day, part=part), sold, windows, inputs, business, scratch)
    waited = _causes_of_passed_dates(places, business)
    caused = pl.concat([caused.join(waited, on="place", how="anti"), waited])
    names = places.select("place", "subscription_id", "metric", "due_item", due_on="billing_date", due_kind="kind")
    behind = (
        rows.select("row", "subscription_id", "settles")
        .explode("settles", empty_as_null=False)
        .unnest("settles")
        .join(names, on=["subscription_id", *SETTLES], nulls_equal=True)
    )
    return behind.join(caused, on="place").select("row", "cause")


def _windows_of_offers(places: pl.DataFrame, metrics: pl.DataFrame, since: pl.Expr) -> list[pl.DataFrame]:
    """The usage that counts for seats, whose first instant belongs to them, and for the document of a coupon."""
    is_seats = pl.col("kind").is_in([LineKind.SEATS, LineKind.PRORATION]) & pl.col("metric").is_not_null()
    after = pl.col("billing_date") + pl.duration(days=1)
    # A coupon on a fee moves with the overages of the cycle that ends where that of the fee starts.
    start = pl.min_horizontal("cycle_start", pl.col("billing_date").dt.offset_by("-1mo"))
    lowering = places.filter(pl.col("kind") == LineKind.COUPON).with_columns(cycle_start=start).drop("metric")
    return [
        places.filter(is_seats).select(*_WINDOW, since=since, until=after),
        lowering.join(metrics, how="cross").select(*_WINDOW, since=since, until=after),
    ]


def _causes_of_passed_dates(places: pl.DataFrame, business: Business) -> pl.DataFrame:
    """place, cause: of differences of dates that passed while their account was parked."""
    first, last = places["billing_date"].min(), places["billing_date"].max()
    gone_by = business.register.dates_gone_by()
    if gone_by.is_empty() or not isinstance(first, date) or not isinstance(last, date):
        return pl.DataFrame(schema={"place": pl.UInt32, "cause": pl.String})
    issued = business.register.issued_amounts(first, last + timedelta(days=1))
    return that_waited(places, gone_by, issued).select(
        "place", cause=pl.format("billing date {} went by while the account was parked", "billing_date")
    )


def _causes_of_changed_rows(redone: pl.DataFrame, moved: Moved, business: Business, scratch: Business) -> pl.DataFrame:
    """row, cause: of rows that differ from those of the last run."""
    # Compare a parked account with the inputs as of when it could be billed.
    is_parked = (pl.col("what") == "parked") & pl.col("new").is_not_null()
    parked = pl.when(is_parked).then("group").fill_null(0)
    places = redone.join(moved.groups, on="account_id", how="left", maintain_order="left").select(
        "account_id",
        "billing_month",
        place="row",
        group=parked,
        day=pl.lit(None, pl.Date),
        part=pl.lit(None, pl.String),
    )
    months = places["billing_month"].unique().to_list()
    keys = ["account_id", "billing_month"]
    packages, cycles = (
        places.join(scratch.scan_months(table, months).collect(), on=keys) for table in (PACKAGES, CYCLES)
    )
    names = packages.select("place", package=pl.concat_list("closing_package", "opening_package"))
    metrics = pl.DataFrame({"metric": [metric.name for metric in scratch.catalogue.metrics]})
    windows = (
        cycles.drop_nulls("cycle_start")
        .select("place", "account_id", "group", since="cycle_start", until="cycle_end")
        .join(metrics, how="cross")
    )
    # Any package may be what a parked account lacks.
    lacking = redone.filter(pl.col("what") == "parked").select(place="row").join(_packages(moved.inputs), how="cross")
    sold = pl.concat([names.explode("package", empty_as_null=False), lacking]).unique()
    caused = _caused(places, sold, windows, moved.inputs, business, scratch)
    return caused.select(pl.col("place").alias("row"), "cause")


def _packages(inputs: pl.DataFrame) -> pl.DataFrame:
    """package: those of which some version moved."""
    return inputs.select("package").drop_nulls().unique()


def _caused(
    places: pl.DataFrame,
    packages: pl.DataFrame,
    windows: pl.DataFrame,
    inputs: pl.DataFrame,
    business: Business,
    scratch: Business,
) -> pl.DataFrame:
    """place, cause: the changed inputs of its group that affect a place among the changes or differences.

    Parameters
    ----------
    places
        place, account_id, group, day and part: of the catalogue, only what holds on that day and is of that part bears
        on it; null for whatever there is.
    packages
        place, package.
    windows
        place, account_id, group, metric, since (null: ever), until: the usage that counts.
    """
    shared = inputs.filter(pl.col("account_id").is_null() & (pl.col("kind") != "delivery"))
    groups = places.select("place", "group", "day", "part")
    everybodys = shared.filter(pl.col("package").is_null())
    holds = (pl.col("since") <= pl.col("day")).fill_null(value=True)
    is_of = pl.col("parts").list.contains(pl.col("part")).fill_null(value=True)
    bears = pl.col("part").is_null() | (holds & is_of)
    return pl.concat(
        [
            places.join(inputs, on=["account_id", "group"]).filter(bears).select(_CAUSED),
            packages.join(groups, on="place").join(shared, on=["group", "package"]).filter(bears).select(_CAUSED),
            groups.join(everybodys, on="group").filter(bears).select(_CAUSED),
            _deliveries(windows, inputs.filter(pl.col("kind") == "delivery"), business, scratch),
        ]
    )


def _deliveries(windows: pl.DataFrame, inputs: pl.DataFrame, business: Business, scratch: Business) -> pl.DataFrame:
    """place, cause: deliveries with added, removed or changed rows that count in a window."""
    keys = ["delivery_day", "file", "before", "now"]
    wanted = inputs.join(windows, on="group", how="semi").select("group", *keys, "cause")
    versions = wanted.select(keys).unique().sort(keys).with_row_index("version")
    wanted = wanted.join(versions, on=keys, nulls_equal=True)
    types = {metric.name: metric.event for metric in scratch.catalogue.metrics}
    used = windows.select(
        "place",
        "group",
        "since",
        "until",
        subject="account_id",
        type=pl.col("metric").replace_strict(types, return_dtype=pl.String),
    )
    day = pl.col("time").dt.convert_time_zone(scratch.catalogue.time_zone).dt.date()
    counts = (pl.col("since").is_null() | (day >= pl.col("since"))) & (day < pl.col("until"))
    nothing = used.select("place", "group", version=pl.lit(0, pl.UInt32)).clear()
    found = [
        _moved_rows(versions.row(version, named=True), business, scratch)
        .join(used.lazy(), on=["subject", "type"])
        .filter(counts)
        .select("place", "group", version=pl.lit(version, pl.UInt32))
        .unique()
        .collect(engine="streaming")
        for version in range(versions.height)
    ]
    return pl.concat([nothing, *found]).join(wanted, on=["group", "version"]).select(_CAUSED)


def _moved_rows(version: dict[str, Any], business: Business, scratch: Business) -> pl.LazyFrame:
    """subject, type, time of the readable rows that a version of a delivery lost, or has more and that count."""
    parts = [pl.LazyFrame(schema=PARSED | {"versions": pl.Int32})]
    for home, digest, sign in ((business.home, version["before"], -1), (scratch.home, version["now"], 1)):
        named = FileVersion(version["delivery_day"], version["file"], digest)
        place = ParsedFolder(home, named.day).find_any(named) if digest else None
        if place is not None:
            parts.append(
                _with_accounts(place, business if sign < 0 else scratch).with_columns(versions=pl.lit(sign, pl.Int32))
            )
    content = pl.exclude("row", "reason", "text", "versions")
    moved = (
        pl.concat(parts, how="diagonal")
        .filter(pl.col("reason").is_null())
        .group_by(content)
        .agg(pl.col("versions").sum())
        .filter(pl.col("versions") != 0)
    )
    # Ignore duplicates of other deliveries and rows that are too late: they change nothing.
    event = ["source", "id"]
    counted = scan_delivered_events(scratch.home, version["delivery_day"], version["file"])
    came = moved.filter(pl.col("versions") > 0).join(counted, on=event, how="semi")
    gone = moved.filter(pl.col("versions") < 0)
    if _is_of_the_last_run(version, business.home):
        gone = gone.join(_counted_no_more(version, business, scratch), on=event, how="semi")
    return pl.concat([gone, came]).select("subject", "type", "time")


def _with_accounts(place: Place, business: Business) -> pl.LazyFrame:
    """Parsed rows of a delivery, with the accounts that names in a raw log stand for."""
    rows = place.scan()
    if ALIAS_KIND not in rows.collect_schema():
        return rows
    named = with_accounts(rows.collect(), business.inputs.aliases, business.catalogue.time_zone)
    return named.drop(ALIAS, ALIAS_KIND).lazy()


def _is_of_the_last_run(version: dict[str, Any], home: Home) -> bool:
    """Whether the lake still has the events of the previous version of a delivery."""
    state = read_state(home)
    day = state.days.get(version["delivery_day"]) if state else None
    file = day.files.get(version["file"]) if day else None
    return file is not None and file.sha256 == version["before"]


def _counted_no_more(version: dict[str, Any], business: Business, scratch: Business) -> pl.LazyFrame:
    """EVENTS that were counted from a delivery and are in no delivery any more."""
    before = scan_delivered_events(business.home, version["delivery_day"], version["file"])
    day = pl.col("time").dt.convert_time_zone(business.catalogue.time_zone).dt.date()
    months = before.select(month_of(day).alias("month")).unique().collect()["month"].to_list()
    content = ["source", "id", "account_id", "metric", "time", "value", "member", "_dimensions"]
    # Lists are no keys of a join.
    as_text = pl.col("dimensions").list.eval(pl.element().fill_null("\x00")).list.join("\x1f").alias("_dimensions")
    now = scan_events(scratch.home, months).with_columns(as_text)
    return before.with_columns(as_text).join(now, on=content, how="anti", nulls_equal=True).drop("_dimensions")
