"""Commands for a business that moves in from another system."""

import json
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import click

from assets.environment import register_url, shards
from billing.model.text import counted
from pipeline.exit_status import exit_status
from pipeline.options import as_of_option, format_option, home_option
from pipeline.output import print_rows, say

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_MOST_NAMED = 10
"""Of accounts that are told."""


@click.command("move-in")
@click.argument("file", type=_FILE)
@as_of_option
@format_option
@home_option
@exit_status
def move_in(file: Path, as_of: date | None, style: str, home: Path) -> None:
    """Write accounts, requests and opening balances from one table, and show the first drafts that follow.

    One row per account: the columns of accounts, and package, term, trial_days, started_on, billed_through, usage_from,
    held_on, cancelled_on, coupon, add_ons, balance, balance_on, reference, credits, credits_expire_on. New files only;
    where a row is wrong nothing is written.
    """
    from assets.clock import today
    from billing.model.plain_rows import without_controls
    from billing.reports import moving_in

    moved = moving_in.move_in(home, file, as_of or today(home), register_url())
    for warning in moved.warnings:
        say(f"warning: {warning}")
    rows = [row | {"lines": [_line(line) for line in row["lines"]]} for row in moved.drafts]
    columns = ["account_id", "billing_date", "kind", "currency", "net", "tax", "total", "lines"]
    if style == "json":
        click.echo(without_controls(json.dumps(asdict(moved), ensure_ascii=False, indent=1)))
    else:
        print_rows(rows, columns, style)
    for each in moved.without_draft:
        say(f"{each['account_id']}: no draft: {each['why']}")
    names = {name: name.replace("_", " ").removesuffix("s") for name in moved.counts}
    written = ", ".join(counted(count, names[name]) for name, count in moved.counts.items())
    say(f"{written}; written: {', '.join(moved.files)}")


def _line(line: dict[str, Any]) -> str:
    return f"{line['amount']:>10}  {line['description']}"


@click.command("compare-invoices")
@click.argument("old", type=_FILE)
@click.option("--month", metavar="MONTH", help="Compare with documents of this billing month only.")
@as_of_option
@format_option
@home_option
@exit_status
def compare(old: Path, month: str | None, as_of: date | None, style: str, home: Path) -> None:
    """Compare invoices of another system with the drafts and documents here: what differs, and why.

    OLD has account_id and amount and, as far as known, kind (package_fee, overage, ..., tax, total, due), metric,
    billing_date and quantity. Changes nothing.
    """
    from assets.clock import today
    from billing.month.business import Business
    from billing.reports.compare_invoices import COMPARED, as_plain, compare_invoices

    business = Business.load(home, as_of or today(home), register_url(), issues=False, shards=shards())
    compared = compare_invoices(business, old, month)
    found = compared.differences
    print_rows(as_plain(found, business), list(COMPARED), style)
    accounts = found["account_id"].n_unique()
    say(f"{counted(found.height, 'difference')} in {counted(accounts, 'account')}" if accounts else "nothing differs")
    if compared.only_here:
        named = ", ".join(compared.only_here[:_MOST_NAMED])
        more = f" and {len(compared.only_here) - _MOST_NAMED:,} more" if len(compared.only_here) > _MOST_NAMED else ""
        say(f"{counted(len(compared.only_here), 'account')} billed here and not in {old.name}: {named}{more}")


@click.command("import-payments")
@click.argument("file", type=_FILE)
@click.option(
    "--format",
    "form",
    type=click.Choice(["stripe", "camt053", "camt054", "csv"]),
    required=True,
    help="The format of FILE.",
)
@click.option("--map", "mapping", type=_FILE, help="For csv: a YAML file that says which column holds what.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@home_option
@exit_status
def import_payments(file: Path, form: str, mapping: Path | None, *, as_json: bool, home: Path) -> None:
    """Add the payments of a statement to landing/payments/, each to the document it pays.

    By the number it names, then by reference, then by account and exact amount; what else a known account paid is
    added without a document, and what matches no account is listed with the reason. A second import adds nothing.
    """
    from billing.model.plain_rows import without_controls
    from billing.reports import importing_payments as importing

    imported = importing.import_payments(home, file, form, mapping, register_url())
    if as_json:
        click.echo(without_controls(json.dumps(asdict(imported), ensure_ascii=False, indent=1)))
    else:
        print_rows(list(imported.unmatched), ["row", "id", "amount", "currency", "text", "why"], "table")
    added = sum(imported.matched.values())
    ways = [f"{count} {how if how == 'on account' else f'by {how}'}" for how, count in imported.matched.items()]
    say(f"{counted(added, 'payment')} added" + (f" ({', '.join(ways)}): {imported.file}" if imported.file else ""))
    for what, count in imported.ignored.items():
        say(f"{counted(count, 'row')} ignored: {what}")
    say(f"{imported.known} known already, {len(imported.unmatched)} not matched")
