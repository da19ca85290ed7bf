"""Made-up usage for the benchmarks, of a month unless told otherwise: gzipped JSON lines by day, and the business.

Accounts differ by a log-normal factor. Of a million events about 3,000 are delivered twice on the same day, 1,500
again on a later day, 200 again with another value, 1,000 late, 400 written unusually, and 500 cannot count, for one of
seven reasons. The same arguments give the same bytes.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from benchmarks.measuring import run_measured

DAYS: Final = 31
MONTH: Final = "2026-01"
BILLED_MONTH: Final = "2026-02"
EVENTS_PER_ACCOUNT: Final = 100
PACKAGES: Final = ("starter", "silver", "gold")

CATALOGUE: Final = """\
currency: USD
time_zone: UTC
seller: {name: Example Ltd, address: [1 Example Street], country: US, tax_id: "12-3456789",
         support_email: help@example.com, billing_policy_url: "https://example.com/billing"}
policy: {billing_start: 2026-01-01}
metrics:
  emails:    {event: email.sent,       kind: counter, measure: sum,  value: data.count}
  bandwidth: {event: bandwidth.served, kind: counter, measure: sum,  value: data.bytes, unit: GB, unit_size: 1000000000}
  leads:     {event: leads.changed,    kind: gauge,   measure: peak, value: data.delta, carries: delta}
packages:
"""

OFFERS: Final = """\
coupons:
  - {name: welcome, title: Welcome offer, percent: "10", documents: 3}
add_ons:
  - name: support
    title: Premium support
    versions: [{effective_from: 2026-01-01, price: {monthly: "30.00"}, allowances: {emails: 5000}}]
"""
BY: Final = ", by: {region: data.region, model: data.model, kind: data.kind}"
RULES: Final = ('{when: {region: eu, model: large, kind: bulk}, model: block, size: 100, price: "0.50"}',)
"""What accounts with offers have beside packages: a coupon and an add-on each, and emails by three dimensions."""

TARIFFS: Final = pl.DataFrame(
    [
        ("starter", "emails", 15_000, 1_000, "3.00"),
        ("starter", "bandwidth", 50 * 10**9, 10**9, "0.50"),
        ("starter", "leads", 250, 10, "1.00"),
        ("silver", "emails", 100_000, 1_000, "2.00"),
        ("silver", "bandwidth", 250 * 10**9, 10**9, "0.40"),
        ("silver", "leads", 1_250, 10, "0.80"),
        ("gold", "emails", 200_000, 1_000, "1.50"),
        ("gold", "bandwidth", 500 * 10**9, 10**9, "0.30"),
        ("gold", "leads", 2_500, 10, "0.70"),
    ],
    schema=["package", "metric", "allowance", "block", "price"],
    orient="row",
)
"""Allowances and blocks in base units: what the catalogue says, for peers that read no catalogue."""


@dataclass(frozen=True)
class Month:
    """Where a made-up month stands, and how large it is."""

    home: Path
    events: int
    accounts: int
    days: int = DAYS

    @property
    def usage(self) -> Path:
        """The folder of delivery days."""
        return self.home / "landing" / "usage"


def made_month(home: Path, events: int, accounts: int | None = None, seed: int = 1, days: int = DAYS) -> Month:
    """As `make_month`, in a process of its own: what it holds is no part of what is measured afterwards."""
    month = Month(home, events, accounts or max(10, events // EVENTS_PER_ACCOUNT), days)
    run_measured(["benchmarks.month_of_usage", str(home), *map(str, (events, month.accounts, seed, days))])
    return month


def make_month(
    home: Path, events: int, accounts: int | None = None, seed: int = 1, days: int = DAYS, *, offers: bool = False
) -> Month:
    """Write the landing folder of a business with so many events from January 2026 on, unless it stands there.

    Parameters
    ----------
    offers
        Every account has a coupon and an add-on, and emails are counted by three dimensions.
    """
    accounts = accounts or max(10, events // EVENTS_PER_ACCOUNT)
    month = Month(home, events, accounts, days)
    done = home / "made"
    label = f"{events} {accounts} {seed}" + (f" {days}" if days != DAYS else "") + (" offers" if offers else "")
    if done.exists() and done.read_text() == label:
        return month
    home.joinpath("landing").mkdir(parents=True, exist_ok=True)
    _write_business(home / "landing", accounts, offers=offers)
    # Import it here: tests read this module without the packages that only benchmarks install.
    from benchmarks.events_of_month import write_usage

    write_usage(month, seed, offers=offers)
    done.write_text(label)
    return month


def account_names(accounts: int) -> pl.Series:
    """The account ids, in order."""
    number = pl.Series("account_id", range(accounts), dtype=pl.Int64).cast(pl.String).str.zfill(8)
    return "acct-" + number


def _catalogue(*, offers: bool) -> str:
    if not offers:
        return CATALOGUE + _packages(())
    by_dimensions = CATALOGUE.replace("value: data.count}", f"value: data.count{BY}}}")
    return by_dimensions.replace("packages:\n", f"{OFFERS}packages:\n") + _packages(RULES)


def _write_business(landing: Path, accounts: int, *, offers: bool) -> None:
    landing.joinpath("catalogue.yaml").write_text(_catalogue(offers=offers), encoding="utf-8")
    names = account_names(accounts)
    base = pl.DataFrame({"account_id": names, "number": range(accounts)})
    base.select(
        "account_id",
        name=pl.format("Customer {}", "number"),
        email=pl.format("billing@customer-{}.example", "number"),
        address_line1=pl.lit("1 Example Street"),
        address_line2=pl.lit(""),
        city=pl.lit("Springfield"),
        region=pl.lit("CA"),
        postal_code=pl.lit("90000"),
        country=pl.lit("US"),
        tax_id=pl.lit(""),
        tax_exempt=pl.lit("false"),
        locale=pl.lit("en-US"),
    ).write_csv(landing / "accounts.csv")
    base.select(
        request_id=pl.format("subscribe-{}", "number"),
        account_id="account_id",
        at=pl.lit("2026-01-01T00:00:00Z"),
        kind=pl.lit("subscribe"),
        channel=pl.lit("self_service"),
        package=pl.lit(pl.Series(PACKAGES)).gather(pl.col("number") % 3),
        term=pl.lit("monthly"),
        trial_days=pl.lit(0),
        **({"coupon": pl.lit("welcome"), "add_ons": pl.struct(support=pl.lit(1))} if offers else {}),
    ).write_ndjson(landing / "requests.jsonl")


def _packages(rules: Sequence[str]) -> str:
    lines = []
    by = f", by: [{', '.join(rules)}]" if rules else ""
    for rank, package in enumerate(PACKAGES, start=1):
        rows = {row["metric"]: row for row in TARIFFS.filter(package=package).to_dicts()}
        units = {"emails": 1, "bandwidth": 10**9, "leads": 1}
        allowances = ", ".join(f"{name}: {row['allowance'] // units[name]}" for name, row in rows.items())
        lines += [
            f"  - name: {package}",
            f"    rank: {rank}",
            f"    title: {package.title()}",
            "    versions:",
            "      - effective_from: 2026-01-01",
            f'        price: {{monthly: "{rank}99.00"}}',
            f"        allowances: {{{allowances}}}",
            "        overage:",
            *(
                f'          {name}: {{model: block, size: {row["block"] // units[name]}, price: "{row["price"]}"'
                f"{by if name == 'emails' else ''}}}"
                for name, row in rows.items()
            ),
            "        auto_upgrade_on: []",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    numbers = [int(each) for each in sys.argv[2:] if each != "offers"]
    made = make_month(Path(sys.argv[1]), *numbers, offers="offers" in sys.argv)
    print(json.dumps({"events": made.events}))
