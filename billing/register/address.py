"""The address of a register on a server: read, and shown without any part of its password."""

import sqlalchemy as sa

from billing.model.errors import RefusedError

_EXPECTED = (
    "expected the URL of a database such as postgresql+psycopg://user@host/name, and its driver installed; what is no "
    "letter or digit in a user name or password is written as its %XX, an @ as %40"
)


def read_address(url: str) -> sa.URL:
    """The address that a URL says.

    Raises
    ------
    RefusedError
        When it is none, or an @ in a password would make the rest of it a name of a host. No part of it is repeated.
    """
    try:
        address = sa.engine.make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:
        # the error itself would be told with it, and may quote the URL
        raise RefusedError(
            f"OVERAGE_REGISTER_URL: this is no URL of a database ({type(error).__name__}): {_EXPECTED}"
        ) from None
    if any("@" in part for part in (address.host or "", address.database or "", *address.query)) and address.host:
        raise RefusedError(f"OVERAGE_REGISTER_URL: found more than one @ in it: {_EXPECTED}")
    return address


def shown(address: sa.URL) -> str:
    """The address for messages: without its password, and without what follows a question mark, which may hold one."""
    return address.set(query={}).render_as_string(hide_password=True)
