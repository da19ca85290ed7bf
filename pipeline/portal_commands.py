"""Command for the link to an account's own page."""

from pathlib import Path

import click

from billing.model.errors import RefusedError
from pipeline.exit_status import exit_status
from pipeline.options import home_option
from pipeline.output import tell


@click.command()
@click.argument("account")
@click.option("--renew", is_flag=True, help="Give the page another address; the former one shows nothing any more.")
@home_option
@exit_status
def link(account: str, *, renew: bool, home: Path) -> None:
    """Print where an account's own page is: its path below the home, or its address with `seller.profile_url`."""
    from datetime import date

    from billing.reports.portal_pages import address_of, finish_renewals, link_of, renew_link
    from pipeline.run_state import load

    business = load(home, date.max, issues=False)
    if not business.knows(account) and account not in business.register.profile_tokens():
        raise RefusedError(f"unknown account: found {account!r}, expected an account_id of the accounts file")
    if link_of(business, account)[0] is None:
        raise RefusedError(f"account {account} has no page yet: the next `overage bill` that issues writes it")
    if renew or link_of(business, account)[1] is False:
        with business.alone():
            if renew:
                renew_link(business, account)
            else:
                finish_renewals(business)
    path, stands = link_of(business, account)
    if path is None or not stands:
        tell(f"the page of account {account} is not there: the next `overage bill` with something new writes it")
    click.echo(address_of(path or "", business.catalogue.seller.profile_url))
