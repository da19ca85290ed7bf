"""Input rows of the last run, and as of the last settlement of each account: a preview names the rows that changed.

An account is settled when everything due on its closed billing dates is issued. An unsettled one (a difference waits
for its next document, or was left out of a correction) is compared with the inputs as of its last settlement.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any, Final

import polars as pl

from billing.ingest.parsed_files import FileVersion
from billing.ingest.state import read_state
from billing.inputs.accounts import ACCOUNT_COLUMNS
from billing.inputs.credit_grants import GRANT_SCHEMA
from billing.inputs.one_off_charges import ONE_OFF_SCHEMA
from billing.inputs.requests import REQUEST_MEMBERS
from billing.inputs.tax_rates import FURTHER_COLUMNS
from billing.model.catalogue import Agreement, Catalogue, Metric, Package, Policy, Terms
from billing.model.codes import LineKind
from billing.model.offers import AddOn
from billing.model.seller import Seller
from billing.month.business import Business
from billing.store.files import remove_file, write_file
from billing.store.home import Home

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


_NEW_MEMBERS: Final = (
    "withdraws",
    "billed_through",
    "usage_from",
    "coupon",
    "add_on",
    "quantity",
    "add_ons",
    *ACCOUNT_COLUMNS[ACCOUNT_COLUMNS.index("locale") + 1 :],
)
_UNKNOWN_EARLIER: Final = rf',"(?:{"|".join(_NEW_MEMBERS)})":null'
_GROUPS: Final = pl.Schema(
    {"accounts": pl.List(pl.String()), "before": pl.List(pl.Struct(dict.fromkeys(_GIVEN, pl.String())))}
)
# Members of the catalogue's seller, policy and metrics that version 0.4 did not know.
_LATER_MEMBERS: Final = frozenset(
    {
        *(each.name for each in fields(Seller) if each.default is not MISSING),
        *("payment_days", "invoice_format", "format_missing", "send", "mail_from", "reminders", "shadow"),
        *("unit_code", "decimals", "titles", "charged", "requested_upgrades", "by"),
    }
)
# Prefix of contents that are divided into parts.
_PARTED: Final = '{"since": '
_OF_ADD_ON: Final = "add-on "
_OF_SOURCE: Final = "source "
"""Prefix of the keys of the catalogue's sources."""
_ORDER: Final = "order of sources"
_ENTRY: Final = ["account_id", "package", "delivery_day", "file"]


@dataclass(frozen=True)
class Moved:
    """Inputs that changed.

    Attributes
    ----------
    groups
        account_id, group: the accounts that are not settled, by the time at which they were. Group 0, of all others, is
        compared with the last run.
    inputs
        group, kind (delivery, request, payment, account, catalogue, tax_rates), key, account_id (null where it is not
        one account's), package (of a part of the catalogue), delivery_day, file, before and now (the contents; null
        where there was, or is, none), cause (words), and of a version, an agreement and the metrics the parts (as
        `part_of`) that are others and the day since which they hold (both null elsewhere); sorted.
    """

    groups: pl.DataFrame
    inputs: pl.DataFrame


def moved_rows(home: Home, now: Business) -> Moved:
    """Compare the recorded inputs of a home with those of `now`."""
    current, groups = rows_now(now), _read(_groups_path(home), _GROUPS).with_row_index("group", offset=1)
    keys, place = ["kind", "key"], pl.col("group").cast(pl.Int32)
    last = current.join(_read(_given_path(home), _GIVEN), on=keys, how="full", coalesce=True, suffix="_before")
    since_last = last.filter(pl.col("content").ne_missing(pl.col("content_before"))).select(
        *keys,
        *(pl.coalesce(name, f"{name}_before") for name in _ENTRY),
        before="content_before",
        now="content",
        group=pl.lit(0, pl.Int32),
    )
    accounts = groups.select(place, account_id="accounts").explode("account_id", empty_as_null=False)
    recorded = (
        groups.select(place, "before")
        .explode("before", empty_as_null=False)
        .unnest("before")
        .with_columns(pl.col("delivery_day").str.to_date("%Y-%m-%d"))
        .rename({"content": "before"})
        .join(current.select(*keys, now="content"), on=keys, how="left")
    )
    # Changes since the last run are also changes since an earlier settlement; the record of the latter wins.
    later = since_last.drop("group").join(groups.select(place), how="cross")
    later = _bearing_on(accounts, later.join(recorded, on=["group", *keys], how="anti"))
    change = (
        pl.when(pl.col("before").is_null())
        .then(pl.lit("is new"))
        .when(pl.col("now").is_null())
        .then(pl.lit("is gone"))
        .otherwise(pl.lit("has changed"))
    )
    inputs = (
        pl.concat([since_last, recorded.select(since_last.columns), later.select(since_last.columns)])
        .filter(pl.col("before").ne_missing(pl.col("now")) & _is_comparable())
        .with_columns(cause=pl.format("{} {} {}", pl.col("kind").str.replace("_", " "), "key", change))
        .sort("group", "kind", "key")
    )
    return Moved(accounts.select("account_id", "group"), _with_parts(_without_equal_orders(inputs)))


def record_rows(business: Business, moved: Moved, unsettled: pl.Series) -> None:
    """Record the current inputs in the lake, and those as of the last settlement of unsettled accounts.

    Parameters
    ----------
    moved
        As `moved_rows` of this business.
    unsettled
        The ids of the accounts that are not settled.
    """
    members = (
        pl.DataFrame({"account_id": unsettled.unique()})
        .join(moved.groups, on="account_id", how="left")
        .with_columns(pl.col("group").fill_null(0))
    )
    entries = (
        _bearing_on(members, moved.inputs)
        .sort("group", "kind", "key")
        .rename({"before": "content"})
        .select("group", before=pl.struct(pl.col(name).cast(pl.String) for name in _GIVEN))
    )
    groups = (
        members.sort("account_id")
        .group_by("group", maintain_order=True)
        .agg(accounts="account_id")
        .join(entries.group_by("group", maintain_order=True).agg("before"), on="group", how="left")
        .with_columns(pl.col("before").fill_null([]), is_new=pl.col("group") == 0)
        .sort("is_new", "group")
        .select(*_GROUPS)
    )
    path = _groups_path(business.home)
    # Write this file first: until the second is replaced, a crash leaves a recoverable state.
    if groups.is_empty():
        remove_file(path)
    else:
        write_file(path, groups.write_parquet)
    write_file(_given_path(business.home), rows_now(business).write_parquet)


def recorded_deliveries(home: Home) -> list[FileVersion]:
    """Deliveries as of the last run, and as of the last settlement of unsettled accounts."""
    if not _groups_path(home).exists() and not _given_path(home).exists():
        return []
    groups = _read(_groups_path(home), _GROUPS).select(entry="before").explode("entry", empty_as_null=False)
    names = {"day": pl.col("delivery_day"), "name": pl.col("file"), "sha256": pl.col("content")}
    last = _read(_given_path(home), _GIVEN).filter(pl.col("kind") == "delivery").select(**names)
    before = (
        groups.unnest("entry")
        .filter((pl.col("kind") == "delivery") & pl.col("content").is_not_null())
        .with_columns(pl.col("delivery_day").str.to_date("%Y-%m-%d"))
        .select(**names)
    )
    return [FileVersion(*row) for row in pl.concat([last, before]).unique().sort("day", "name", "sha256").iter_rows()]


def _bearing_on(accounts: pl.DataFrame, inputs: pl.DataFrame) -> pl.DataFrame:
    """Inputs that concern everybody, or an account of their group."""
    own = inputs.join(accounts, on=["group", "account_id"], how="semi")
    return pl.concat([inputs.filter(pl.col("account_id").is_null()), own])


def _read(path: Path, schema: pl.Schema) -> pl.DataFrame:
    return pl.read_parquet(path) if path.exists() else pl.DataFrame(schema=schema)


def _given_path(home: Home) -> Path:
    return home.lake / "given.parquet"


def _groups_path(home: Home) -> Path:
    return home.lake / "unsettled.parquet"


def rows_now(business: Business) -> pl.DataFrame:
    """kind, key, account_id, package, delivery_day, file, content of all inputs up to the as-of day."""
    inputs = business.inputs
    parts = [
        _deliveries(business),
        _rows(business.requests, "request", "request_id", REQUEST_MEMBERS),
        _rows(inputs.payments.filter(pl.col("on") <= business.as_of), "payment", "payment_id", _PAYMENT),
        _rows(inputs.accounts, "account", "account_id", ACCOUNT_COLUMNS),
        _rows(inputs.one_off_charges, "charge", "charge_id", tuple(ONE_OFF_SCHEMA)),
        _rows(inputs.credit_grants, "credit_grant", "grant_id", tuple(GRANT_SCHEMA)),
        _aliases(inputs.aliases),
        _catalogue(business),
        pl.DataFrame(
            {"kind": "tax_rates", "key": "table", "content": _as_known_earlier(inputs.tax_rates).write_json()}
        ),
    ]
    return pl.concat([pl.DataFrame(schema=_GIVEN), *parts], how="diagonal").sort("kind", "key")


def _as_known_earlier(tax_rates: pl.DataFrame) -> pl.DataFrame:
    """The tax table without columns that earlier versions did not know, if they are empty."""
    return tax_rates.drop(name for name in FURTHER_COLUMNS if tax_rates[name].null_count() == tax_rates.height)


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


def _aliases(aliases: pl.DataFrame) -> pl.DataFrame:
    """A row per name and date since when it stands for an account; its content is until when."""
    return aliases.select(
        "account_id",
        kind=pl.lit("alias"),
        key=pl.format(
            "{} {} of {} from {} on", "kind", "alias", "account_id", pl.col("from").cast(pl.String).fill_null("ever")
        ),
        content=pl.format("until {}", pl.col("to").cast(pl.String).fill_null("open")),
    )


def _rows(frame: pl.DataFrame, kind: str, key: str, members: tuple[str, ...]) -> pl.DataFrame:
    return frame.select(
        "account_id",
        kind=pl.lit(kind),
        key=pl.col(key),
        # Leave out members that earlier versions did not know if they are null.
        content=pl.struct(pl.col(name).cast(pl.String) for name in members)
        .struct.json_encode()
        .str.replace_all(_UNKNOWN_EARLIER, ""),
    )


def part_of(due_kind: str, metric: str | None) -> str:
    """Name the part of the catalogue that determines what is due: a fee, or a metric's overage."""
    return due_kind if metric is None else f"{due_kind} of {metric}"


def _upgrades(package: Package, terms: Terms) -> list[object]:
    """What decides automatic upgrades: nobody is upgraded to a hidden package."""
    return [package.rank, *terms.auto_upgrade_on, *(["hidden"] if package.hidden else [])]


def _as_known_to_earlier(entry: Seller | Policy | Metric) -> str:
    """Its repr, without members that earlier versions did not know, if they have their defaults."""
    said = [
        f"{each.name}={getattr(entry, each.name)!r}" for each in fields(entry) if each.repr and _is_said(each, entry)
    ]
    return f"{type(entry).__name__}({', '.join(said)})"


def _is_said(member: Field[Any], entry: Seller | Policy | Metric) -> bool:
    if member.name not in _LATER_MEMBERS:
        return True
    usual = member.default if member.default_factory is MISSING else member.default_factory()
    return bool(getattr(entry, member.name) != usual)


def _terms(terms: Terms | Agreement) -> dict[str, object]:
    """Their parts, as `part_of` names them."""
    metrics = sorted({*terms.allowances, *terms.overage})
    fees = (terms.monthly, terms.yearly, *sorted(terms.lacking))
    parts: dict[str, object] = {part_of(LineKind.PACKAGE_FEE, None): fees} | {
        part_of(LineKind.OVERAGE, metric): [each.get(metric, "as it is") for each in (terms.allowances, terms.overage)]
        for metric in metrics
    }
    # Leave out parts that earlier versions did not know if they are empty.
    if terms.minimum_spend is not None:
        parts[LineKind.MINIMUM_SPEND] = terms.minimum_spend
    for seats in terms.seats if isinstance(terms, Terms) else ():
        parts[part_of(LineKind.SEATS, seats.metric)] = seats
    return parts


def _of_add_on(add_on: AddOn) -> dict[str, object]:
    """What an add-on bears on: its fee, and the overages of the metrics to whose allowances it adds."""
    metrics = sorted({metric for version in add_on.versions for metric in version.allowances})
    added = {
        part_of(LineKind.OVERAGE, metric): [
            (each.effective_from, each.allowances.get(metric)) for each in add_on.versions
        ]
        for metric in metrics
    }
    fees = [(each.effective_from, each.monthly, each.yearly, each.maximum) for each in add_on.versions]
    return {LineKind.ADD_ON.value: fees, **added}


def _agreed(agreement: Agreement) -> dict[str, object]:
    """The parts of an agreement, each with the day on which it ends, if there is one."""
    if agreement.until is None:
        return _terms(agreement)
    return {name: [part, f"until {agreement.until}"] for name, part in _terms(agreement).items()}


def _as_parts(parts: Mapping[str, object], since: date | None = None) -> str:
    return json.dumps({"since": None if since is None else since.isoformat(), "parts": parts}, default=repr)


def _is_of_an_earlier_version(column: str) -> pl.Expr:
    """Whether a version without parts recorded this content of the catalogue."""
    return (pl.col(column).is_not_null() & ~pl.col(column).str.starts_with(_PARTED)).fill_null(value=False)


def _is_comparable() -> pl.Expr:
    """False where an earlier version's record of the catalogue cannot be compared with the current one."""
    is_parted = pl.col("now").str.starts_with(_PARTED).fill_null(value=False)
    return ~((pl.col("kind") == "catalogue") & is_parted & _is_of_an_earlier_version("before"))


def _without_equal_orders(inputs: pl.DataFrame) -> pl.DataFrame:
    """`inputs` without orders of sources in which those of before and now follow each other as they did."""
    is_order = pl.col("key") == _ORDER
    kept = []
    for before, now in inputs.filter(is_order).select("before", "now").unique().iter_rows():
        one, other = _ordered(before), _ordered(now)
        if [name for name in one if name in other] != [name for name in other if name in one]:
            kept.append((before, now, f"catalogue {_ORDER} has changed: {', '.join(other)}"))
    others = pl.DataFrame(kept, schema=dict.fromkeys(("before", "now", "cause"), pl.String), orient="row")
    orders = inputs.filter(is_order).drop("cause").join(others, on=["before", "now"], maintain_order="left")
    return pl.concat([inputs.filter(~is_order), orders.select(inputs.columns)]).sort("group", "kind", "key")


def _ordered(content: str | None) -> list[str]:
    """The names of sources in their order, of a recorded content."""
    parts: dict[str, list[str]] = json.loads(content)["parts"] if content else {}
    return next(iter(parts.values()), [])


def _with_parts(inputs: pl.DataFrame) -> pl.DataFrame:
    """`inputs` with parts (which of them are others now; null where it has none) and since (when it takes effect)."""
    is_common = pl.col("key").is_in(["metrics", _ORDER]) | pl.any_horizontal(
        pl.col("key").str.starts_with(prefix) for prefix in (_OF_SOURCE, _OF_ADD_ON)
    )
    is_parted = pl.col("package").is_not_null() | pl.col("account_id").is_not_null() | is_common
    contents = (
        inputs.filter((pl.col("kind") == "catalogue") & is_parted & ~_is_of_an_earlier_version("before"))
        .select("before", "now")
        .unique()
    )
    rows = []
    for before, now in contents.iter_rows():
        one, other = (json.loads(content) if content else {"parts": {}} for content in (before, now))
        names = {*one["parts"], *other["parts"]}
        moved = sorted(name for name in names if one["parts"].get(name) != other["parts"].get(name))
        rows.append((before, now, moved, other.get("since") or one.get("since")))
    parted = pl.DataFrame(
        rows,
        schema={"before": pl.String, "now": pl.String, "parts": pl.List(pl.String), "since": pl.String},
        orient="row",
    )
    return inputs.join(
        parted.with_columns(pl.col("since").str.to_date()),
        on=["before", "now"],
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )


def _prices(catalogue: Catalogue, of: str = "") -> list[dict[str, object]]:
    """What has amounts in the currency of a catalogue; `of` names one that is not that of the home's."""
    versions: list[dict[str, object]] = [
        {
            "key": f"package {package.name}, version of {terms.effective_from}{of}",
            "package": package.name,
            "content": _as_parts(_terms(terms) | {"upgrades": _upgrades(package, terms)}, terms.effective_from),
        }
        for package in catalogue.packages
        for terms in package.versions
    ]
    agreements: list[dict[str, object]] = [
        {
            "key": f"agreement of {agreement.account_id} on {agreement.package} from {agreement.effective_from}{of}",
            "account_id": agreement.account_id,
            "content": _as_parts(_agreed(agreement), agreement.effective_from),
        }
        for agreement in catalogue.agreements
    ]
    offers: list[dict[str, object]] = []
    offers += [{"key": f"coupon {coupon.name}{of}", "content": repr(coupon)} for coupon in catalogue.coupons]
    offers += [
        {"key": f"{_OF_ADD_ON}{each.name}{of}", "content": _as_parts(_of_add_on(each))} for each in catalogue.add_ons
    ]
    return [*versions, *agreements, *offers]


def _catalogue(business: Business) -> pl.DataFrame:
    """The parts of the catalogue: each version of a package, each agreement, and what holds for everyone."""
    catalogue = business.catalogue
    prices = [
        *_prices(catalogue),
        *(row for code, its in catalogue.others.items() for row in _prices(its, f", {code}")),
    ]
    metrics = {part_of(LineKind.OVERAGE, each.name): _as_known_to_earlier(each) for each in catalogue.metrics}
    common = [
        {"key": "metrics", "content": _as_parts(metrics)},
        {"key": "policy", "content": _as_known_to_earlier(catalogue.policy)},
        *(
            {"key": f"policy, {code}", "content": _as_known_to_earlier(its.policy)}
            for code, its in catalogue.others.items()
        ),
        {"key": "currency and time zone", "content": f"{catalogue.currency} {catalogue.time_zone}"},
        {"key": "seller", "content": _as_known_to_earlier(catalogue.seller)},
    ]
    offers = [
        *(
            {"key": f"add-ons of package {package.name}", "content": repr(sorted(package.add_ons))}
            for package in catalogue.packages
            if package.add_ons is not None
        ),
    ]
    # A source bears on the overages of metrics only: fees are due whatever the usage.
    sources = [
        {
            "key": f"{_OF_SOURCE}{source.name}",
            "content": _as_parts({metric: [source.digest, *source.files] for metric in metrics}),
        }
        for source in catalogue.sources
    ]
    # Of several sources that match a file the first reads it.
    order = [source.name for source in catalogue.sources]
    sources += [{"key": _ORDER, "content": _as_parts(dict.fromkeys(metrics, order))}] if order else []
    frame = pl.DataFrame(
        [*prices, *common, *offers, *sources],
        schema={"key": pl.String, "package": pl.String, "account_id": pl.String, "content": pl.String},
    )
    return frame.with_columns(kind=pl.lit("catalogue"))
