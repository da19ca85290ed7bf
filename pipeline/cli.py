"""Command line. Results go to standard output, messages to standard error."""

import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import click

from assets.environment import register_url, use_home
from billing import __version__
from billing.model.codes import DocumentKind
from billing.model.errors import RefusedError
from billing.model.text import counted
from pipeline.exit_status import DONE, PARTLY, exit_status
from pipeline.export_commands import export_documents
from pipeline.forecasting import forecast
from pipeline.moving import compare, import_payments, move_in
from pipeline.options import Day as Day
from pipeline.options import HomeFolder, PlainFolder, as_of_option, format_option, home_option
from pipeline.output import print_explanation, print_rows, say, signed_lines, tell
from pipeline.portal_commands import link
from pipeline.process_settings import collect_less_often, loading, skip_last_collection
from pipeline.report_command import report
from pipeline.sending import remind, send, statement
from pipeline.store_commands import check_store, move_home
from pipeline.template_commands import preview_template
from pipeline.what_if_command import what_if


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="overage")
def main() -> None:
    """Batch billing for subscription software: usage logs in, invoices and upgrade decisions out.

    Exit status: 0 done; 1 done in part, or `check` and `verify` found something; 2 refused before anything was written.
    """
    collect_less_often()
    skip_last_collection()


@main.command()
@click.argument("directory", type=HomeFolder(), required=False)
@home_option
@exit_status
def init(directory: Path | None, home: Path) -> None:
    """Write a commented billing home to start from."""
    from billing.starter import write_starter_home

    target = directory or home
    for path in write_starter_home(target):
        tell(str(path))
    say(f"Edit {target / 'landing' / 'catalogue.yaml'}, then run: overage check --home {target}")


@main.command()
@click.argument("directory", type=PlainFolder())
@click.option("--accounts", type=click.IntRange(1), default=200, show_default=True)
@click.option("--months", type=click.IntRange(1, 120), default=3, show_default=True)
@click.option("--events-per-account-day", type=click.FloatRange(min=0, min_open=True), default=10, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option("--payments", is_flag=True, help="Add payments to a billed sample, for its issued documents.")
@click.option("--home", hidden=True, expose_value=False, help="Accepted by every command; this one writes DIRECTORY.")
@exit_status
def sample(
    directory: Path, accounts: int, months: int, events_per_account_day: float, seed: int, *, payments: bool
) -> None:
    """Write a synthetic business: the same arguments give the same bytes."""
    from billing.sample import write_sample, write_sample_payments
    from pipeline.run_state import load

    if payments:
        documents = load(directory, date.max, issues=False).register.documents()
        found = write_sample_payments(directory, documents)
        say(f"{directory}: {counted(f'{found:,}', 'payment')} of {counted(f'{documents.height:,}', 'document')}")
        return
    summary = write_sample(
        directory, accounts=accounts, months=months, events_per_account_day=events_per_account_day, seed=seed
    )
    rows = summary.counted + summary.duplicates + summary.rejected
    say(f"{directory}: {counted(accounts, 'account')}, {counted(months, 'month')}, {counted(f'{rows:,}', 'row')}")
    say(f"Bill it: overage bill {summary.bill_month} --as-of {summary.bill_as_of} --home {directory}")


@main.command()
@click.option("--all", "every_row", is_flag=True, help="Read all usage, not only the first rows of new files.")
@home_option
@exit_status
def check(*, every_row: bool, home: Path) -> int:
    """Validate the catalogue and the inputs, and read the first rows of new usage files; compute nothing."""
    from billing.reports.check import problems_of

    problems = problems_of(home, register_url(), every_row=every_row)
    for problem in problems:
        tell(str(problem))
    say(f"{home}: {counted(len(problems), 'problem')} found" if problems else f"{home}: nothing to complain about")
    return PARTLY if problems else DONE


@main.command("try")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--source", metavar="NAME", help="The source that reads it; else the first that matches its name.")
@click.option("--rows", type=click.IntRange(0), default=10, show_default=True, help="Events and rejects to list.")
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table")
@home_option
@exit_status
def try_(file: Path, *, source: str | None, rows: int, style: str, home: Path) -> int:
    """Show what a raw log would become, or print the entry of `sources:` that could read it; change nothing."""
    from pipeline.trying import try_and_tell

    return try_and_tell(file, home, source=source, rows=rows, style=style)


@main.command()
@home_option
@exit_status
def repair(home: Path) -> int:
    """Remove damaged files from the lake: the next `bill` rebuilds them from landing and the register."""
    from pipeline.stores import repaired

    if not (home / "lake").is_dir():
        raise RefusedError(f"{home}: there is no lake to repair: expected a billing home that was billed")
    removed, left, objects = repaired(home)
    for damage in removed:
        tell(f"{damage.path}: taken away ({damage.reason})")
    for damage in left:
        tell(f"{damage.path}: its delivery is in landing no more, restore either from a backup ({damage.reason})")
    taken = f"{counted(len(removed), 'file')} taken away: now run overage bill" if removed else "nothing was taken away"
    say(taken if removed or left else "nothing is damaged")
    if objects:
        say(f"{counted(f'{objects:,}', 'object')} of earlier states deleted")
    return PARTLY if left else DONE


@main.command()
@click.argument("month")
@click.option("--through", metavar="MONTH", help="Bill the following months too, up to this one.")
@as_of_option
@click.option("--draft", is_flag=True, help="Compute everything, issue nothing.")
@click.option(
    "--accept-missing-accounts",
    "accept_missing",
    is_flag=True,
    help="Bill although the accounts file lacks many accounts with live subscriptions, and park these.",
)
@home_option
@exit_status
def bill(month: str, through: str | None, as_of: date | None, *, draft: bool, accept_missing: bool, home: Path) -> int:
    """Bill a month: ingest new deliveries, compute, issue what is due, render.

    Earlier stale months are billed first, in order.
    """
    # Set the home first: importing the definitions creates its partitions.
    use_home(home)
    with loading():
        from assets.clock import now, today
        from pipeline import run_state
        from pipeline.sending import refuse_to_send_without_server, say_what_was_sent

    last = through or month
    business = run_state.load(home, as_of or today(home), issues=not draft)
    if not accept_missing:
        business.refuse_lacking_accounts()
    start = now()
    if not draft:
        refuse_to_send_without_server(business)
    outcome = run_state.done_already(business, month, last, draft=draft, say=say)
    if outcome is None:
        # Import lazily: Dagster takes a second to load.
        with loading():
            from pipeline import runs
            from pipeline.progress import progress_display

        with progress_display():
            outcome = runs.bill(business, month, last, draft=draft, say=say)
    problems = [*outcome.problems, *([] if draft else say_what_was_sent(business, start))]
    for problem in problems:
        say(f"not done: {problem}")
    say(f"{counted(outcome.issued, 'document')} issued" + (" (a draft issues none)" if draft else ""))
    return PARTLY if problems else DONE


@main.command("accept-loss")
@click.option("--reason", required=True, help="Why the loss is accepted; recorded.")
@as_of_option
@home_option
@exit_status
def accept_loss(reason: str, as_of: date | None, home: Path) -> None:
    """Accept the loss of deliveries that usage was measured from and that are neither in landing nor in the lake.

    Issued documents stay as they are; open cycles are measured from the remaining deliveries. This is irreversible:
    restore the deliveries from an archive instead, if there is one.
    """
    from assets.clock import today
    from billing.month.lost_deliveries import accept_losses
    from billing.month.steps import ingest_usage
    from pipeline import run_state

    business = run_state.load(home, as_of or today(home), issues=False)
    with business.alone():
        ingest_usage(business)
        lost = accept_losses(business, reason)
    for day, file, counted_rows in lost.select("delivery_day", "file", "counted").iter_rows():
        tell(f"usage/{day}/{file}: {counted(counted_rows, 'row')} counted, given up")
    say(f"{counted(lost.height, 'file')} given up" if lost.height else "nothing is lost")


@main.command()
@click.argument("month")
@click.option(
    "--reviewed", required=True, metavar="DRAFTS", help="The drafts that were reviewed, as `bill` names them."
)
@home_option
@exit_status
def issue(month: str, reviewed: str, home: Path) -> int:
    """Issue exactly the reviewed drafts of a month, as of the day they were made.

    For homes with the policy `auto_issue: false`, where `bill` stops at drafts. Refused if the drafts or
    an input changed since.
    """
    use_home(home)
    with loading():
        from assets.clock import now, today
        from pipeline import run_state, runs
        from pipeline.progress import progress_display
        from pipeline.sending import refuse_to_send_without_server, say_what_was_sent

    business, start = run_state.load(home, today(home), issues=False), now()
    refuse_to_send_without_server(business)
    with progress_display():
        outcome = runs.issue(home, month, reviewed, say)
    not_sent = say_what_was_sent(business, start)
    for problem in (*outcome.problems, *not_sent):
        say(f"not done: {problem}")
    say(f"{counted(outcome.issued, 'document')} issued")
    return PARTLY if outcome.is_partial or not_sent else DONE


@main.command()
@click.argument("month")
@click.option("--account", help="Only one account.")
@as_of_option
@format_option
@home_option
@exit_status
def preview(month: str, account: str | None, as_of: date | None, style: str, home: Path) -> None:
    """Dry run: show what billing a month would change, account by account, and why.

    Shows documents with their lines, closed cycles whose amount due changed, packages and decisions.
    """
    use_home(home)
    from assets.clock import today
    from billing.model.plain_rows import without_controls
    from billing.reports.preview import CHANGES
    from pipeline import runs
    from pipeline.progress import progress_display

    with progress_display():
        found = runs.preview(home, month, as_of or today(home), account)
    if style == "json":
        click.echo(without_controls(json.dumps(found.as_plain(), ensure_ascii=False, indent=1)))
        return
    # Drop columns in tables that `item` and the day already show.
    left_out = {"subscription_id", "billing_month"} if style == "table" else set()
    print_rows(found.rows(), [name for name in CHANGES if name not in left_out], style)
    for moved, inputs in found.moved.items():
        say(f"{moved}: would be built again, moved: {', '.join(inputs)}")
    for words in found.in_words():
        say(words)
    if found.changes.is_empty():
        say(f"nothing would change in {month} or before it")


@main.command()
@click.argument("month")
@click.option("--account", "accounts", multiple=True, metavar="ACCOUNT", help="Only this account; may be repeated.")
@click.option("--reason", required=True, help="Why: printed on every note.")
@as_of_option
@click.option("--draft", is_flag=True, help="Show the notes, issue none.")
@format_option
@home_option
@exit_status
def correct(
    month: str, accounts: tuple[str, ...], reason: str, as_of: date | None, *, draft: bool, style: str, home: Path
) -> int:
    """Correct an issued month now: a credit or debit note per document that differs from what is due.

    Without it, differences become lines on the next documents. Idempotent: a second correction issues nothing.
    """
    # Set the home first: importing the definitions creates its partitions.
    use_home(home)
    with loading():
        from assets.clock import now, today
        from pipeline import run_state, runs
        from pipeline.progress import progress_display
        from pipeline.sending import refuse_to_send_without_server, say_what_was_sent

    business, start = run_state.load(home, as_of or today(home), issues=not draft), now()
    if not draft:
        refuse_to_send_without_server(business)
    with progress_display():
        rows, problems = runs.correct(home, month, accounts, reason, as_of or today(home), draft=draft, say=say)
    if rows or style != "table":
        columns = ["kind", "account_id", "subscription_id", "billing_date", "corrects"]
        shown = [row | {"lines": signed_lines(row["lines"])} for row in rows] if style == "table" else rows
        print_rows(shown, ["number", *columns, "currency", "net", "tax", "total", "lines"], style)
    for kind, words in ((DocumentKind.DEBIT_NOTE, "more due"), (DocumentKind.CREDIT_NOTE, "less due")):
        of_kind = [row for row in rows if row["kind"] == kind]
        for currency in sorted({row["currency"] for row in of_kind}):
            notes = [row for row in of_kind if row["currency"] == currency]
            total = sum((abs(Decimal(row["total"])) for row in notes), Decimal(0))
            say(f"{kind.replace('_', ' ')}s: {len(notes)}, {currency} {total:f} {words}")
    if rows:
        found = counted(len(rows), "note")
        say(f"{found} would be issued (a draft issues none)" if draft else f"{found} issued")
        problems += [] if draft else say_what_was_sent(business, start)
    for problem in problems:
        say(f"not done: {problem}")
    return PARTLY if problems else DONE


@main.command()
@click.argument("table")
@click.option("--month", metavar="MONTH", help="Only one billing month (delivery month for ingest and rejects).")
@click.option("--account", help="Only one account.")
@click.option("--reason", help="For rejects: only one reason.")
@click.option("--file", "file", help="For rejects and ingest: only one file, such as usage/2026-01-31/a.jsonl.")
@click.option("--limit", type=click.IntRange(1), help="Maximum number of rows.")
@as_of_option
@format_option
@click.option("--raw", is_flag=True, help="CSV without apostrophes before cells that a spreadsheet takes for formulas.")
@home_option
@exit_status
def show(
    table: str,
    *,
    month: str | None,
    account: str | None,
    reason: str | None,
    file: str | None,
    limit: int | None,
    as_of: date | None,
    style: str,
    raw: bool,
    home: Path,
) -> None:
    """Print a table: documents, lines, decisions, usage, charges, rejects, ..."""
    from billing.model.plain_rows import plain_rows
    from billing.model.text import counted
    from billing.month.recorded_inputs.runs import last_as_of
    from billing.reports.row_decimals import decimals_of
    from billing.reports.show import read_table
    from pipeline.run_state import load

    last = last_as_of(home)
    day = as_of or last or date.max
    business = load(home, day, issues=False)
    looks_elsewhere = last is not None and day != last
    frame = read_table(
        business, name=table, month=month, account=account, looks_elsewhere=looks_elsewhere, reason=reason, file=file
    )
    if limit is not None and frame.height > limit:
        click.echo(f"the first {limit:,} of {counted(frame.height, 'row')}", err=True)
        frame = frame.head(limit)
    types = {name: str(dtype) == "String" for name, dtype in frame.schema.items()}
    print_rows(plain_rows(frame, decimals_of(business, frame)), frame.columns, style, raw=raw, types=types)


@main.command()
@click.argument("number")
@click.option("--line", type=click.IntRange(1), help="One line only.")
@click.option(
    "--events", type=click.IntRange(0), default=1_000, show_default=True, help="Maximum number of events per line."
)
@click.option(
    "--all", "everything", is_flag=True, help="Include metrics that cost nothing and why, late usage, and rejects."
)
@format_option
@home_option
@exit_status
def explain(number: str, line: int | None, events: int, *, everything: bool, style: str, home: Path) -> None:
    """Explain a document: from its lines to the arithmetic, usage by day, and the events behind it."""
    from billing.model.plain_rows import as_json
    from billing.reports.explain import explain_document, is_more_than_lines
    from pipeline.run_state import load

    business = load(home, date.max, issues=False)
    found = explain_document(business, number, line, events, everything=everything)
    if style == "json":
        click.echo(as_json(found))
    elif style == "csv":
        columns = ["number", "line", "source", "id", "file", "row", "delivery_day", "time", "quantity"]
        rows = [{"number": number, "line": each["line"], **event} for each in found for event in each["events"]]
        print_rows(rows, columns, style)
    else:
        for each in found:
            print_explanation(each)
        if not everything and is_more_than_lines(business, number):
            say(
                f"Why other metrics cost nothing, and where late or rejected usage went: overage explain {number} --all"
            )


@main.command()
@home_option
@exit_status
def verify(home: Path) -> int:
    """Recompute tables, check register and documents, and report any disagreement."""
    from billing.reports.verify import disagreements, moved_months, redrawn_documents
    from pipeline.run_state import load

    business = load(home, date.max, issues=False)
    found = disagreements(business)
    for disagreement in found:
        tell(disagreement)
    for told in redrawn_documents(business):
        say(told)
    for month, inputs in [] if found else moved_months(business):
        say(f"{month}: its tables were not computed again (moved since: {', '.join(inputs)})")
    documents = business.register.count()
    say(f"{home}: {counted(documents, 'document')} read again, {counted(len(found) or 'no', 'disagreement')}")
    return PARTLY if found else DONE


@main.command()
@click.option("--port", type=click.IntRange(1, 65_535), default=3000, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--read-only", is_flag=True, help="Disable all actions in the UI; run no schedule.")
@click.option("--new-user", metavar="NAME", help="Ask for a password, print the user for OVERAGE_UI_USERS, and end.")
@home_option
@exit_status
def ui(port: int, host: str, *, read_only: bool, new_user: str | None, home: Path) -> int:
    """Open the Dagster UI on these assets (webserver and daemon, until you stop it).

    With $OVERAGE_UI_USERS it asks for a user name and a password.
    """
    if new_user is not None:
        from pipeline.web_users import new_user as made

        click.echo(made(new_user, click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)))
        return DONE
    from pipeline.executor_choice import chosen_executor
    from pipeline.ui import serve

    chosen_executor()
    return serve(home, host, port, say, read_only=read_only)


@main.command()
@click.option("--name", help="The worker's name in the logs; else its process.")
@home_option
@exit_status
def worker(name: str | None, home: Path) -> int:
    """Execute steps of runs that other machines send (OVERAGE_EXECUTOR=celery), until you stop it."""
    use_home(home)
    from pipeline.executor_choice import ExecutorName, chosen_executor

    if chosen_executor() != ExecutorName.CELERY:
        raise RefusedError("a worker takes steps from Celery's broker: expected OVERAGE_EXECUTOR=celery")
    from pipeline.celery_worker import work

    return work(name)


main.add_command(export_documents)
main.add_command(forecast)
main.add_command(move_in)
main.add_command(compare)
main.add_command(import_payments)
main.add_command(check_store)
main.add_command(move_home)
main.add_command(preview_template)
main.add_command(what_if)
main.add_command(send)
main.add_command(remind)
main.add_command(statement)
main.add_command(link)
main.add_command(report)
