"""Command that writes issued documents again as e-invoices."""

from datetime import date
from pathlib import Path

import click

from billing.einvoices.formats import E_INVOICES, InvoiceFormat
from billing.model.errors import RefusedError
from billing.model.text import counted
from pipeline.exit_status import DONE, PARTLY, exit_status
from pipeline.options import home_option
from pipeline.output import say, tell


@click.command("export-documents")
@click.argument("month")
@click.option(
    "--format", "style", type=click.Choice([each.value for each in E_INVOICES]), required=True, help="What to write."
)
@click.option("--account", "accounts", multiple=True, metavar="ACCOUNT", help="Of this account only; repeatable.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write to; default: documents/MONTH/export in the home.",
)
@home_option
@exit_status
def export_documents(month: str, style: str, accounts: tuple[str, ...], out: Path | None, home: Path) -> int:
    """Write the issued documents of MONTH as e-invoices: XML files, or PDFs with the XML in them (facturx).

    Changes no document and nothing in the register. Documents that cannot be written are named with the reason.
    """
    from billing.reports import export_documents as exporting
    from billing.store.working_copy import working_copy
    from pipeline.run_state import load

    if out is None and working_copy(home) is not None:
        raise RefusedError("the home is in a store: expected --out with a folder of this machine")
    business = load(home, date.max, issues=False)
    exported = exporting.export_documents(business, month, InvoiceFormat(style), accounts=accounts, out=out)
    for path in exported.files:
        tell(str(path))
    for number, why in exported.not_written:
        say(f"{number} cannot be {style}: {why}")
    left = f", {counted(len(exported.not_written), 'document')} not" if exported.not_written else ""
    say(f"{counted(len(exported.files), 'document')} written as {style}{left}")
    return PARTLY if exported.not_written else DONE
