"""File permissions of a home: owner only by default, as it holds invoices, names and amounts.

OVERAGE_UMASK
    Permissions to remove from new files, as octal digits: 077 (the default) all of group and others, 027 lets the
    group read, 007 lets it write.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from assets.environment import variables
from billing.model.errors import RefusedError


def umask_of(environment: Mapping[str, str]) -> int:
    """Parse the umask for new files.

    Raises
    ------
    RefusedError
        When it is not a umask, or locks the owner out.
    """
    given = environment.get("OVERAGE_UMASK") or "077"
    if not re.fullmatch("0{0,2}[0-7]{1,2}", given):
        raise RefusedError(f"OVERAGE_UMASK: found {given!r}, expected octal digits from 000 to 077, such as 027")
    return int(given, 8)


@contextmanager
def private_files() -> Iterator[None]:
    """Create files and folders with the umask of OVERAGE_UMASK, by default for the owner only."""
    before = os.umask(umask_of(variables()))
    try:
        yield
    finally:
        os.umask(before)
