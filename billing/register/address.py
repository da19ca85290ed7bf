"""The URL of a register on a server: parse it, and mask its password in messages."""

import sqlalchemy as sa

from billing.model.errors import RefusedError

_EXPECTED = (
    "expected the URL of a database such as postgresql+psycopg://user@host/name, and its driver installed; what is no "
    "letter or digit in a user name or password is written as its %XX, an @ as %40"
)


def read_address(url: str) -> sa.URL:
    """Parse the URL of a register.

    Raises
    ------
    RefusedError
        When it is invalid, or an unescaped @ in the password would be read as the host. No part of it is repeated.
    """
    try:
        address = sa.engine.make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:
        # Suppress the cause: its message may quote the URL.
        raise RefusedError(
            f"OVERAGE_REGISTER_URL: this is no URL of a database ({type(error).__name__}): {_EXPECTED}"
        ) from None
    if any("@" in part for part in (address.host or "", address.database or "", *address.query)) and address.host:
        raise RefusedError(f"OVERAGE_REGISTER_URL: found more than one @ in it: {_EXPECTED}")
    return address


def shown(address: sa.URL) -> str:
    """The address for messages: without password and query string, which may hold one."""
    return address.set(query={}).render_as_string(hide_password=True)
