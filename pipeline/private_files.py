"""Files of a home are its owner's: invoices, names and amounts are nobody else's business.

OVERAGE_UMASK
    What others may not do with what is made, as octal digits: 077 (the default) nothing, 027 lets the group read,
    007 lets it write.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from assets.environment import variables
from billing.model.errors import RefusedError


def umask_of(environment: Mapping[str, str]) -> int:
    """The mask for files that are made.

    Raises
    ------
    RefusedError
        When it is no mask, or one that shuts the owner out.
    """
    given = environment.get("OVERAGE_UMASK") or "077"
    if not re.fullmatch("0{0,2}[0-7]{1,2}", given):
        raise RefusedError(f"OVERAGE_UMASK: found {given!r}, expected octal digits from 000 to 077, such as 027")
    return int(given, 8)


@contextmanager
def private_files() -> Iterator[None]:
    """Make files and folders for the owner only, or for whom OVERAGE_UMASK names."""
    before = os.umask(umask_of(variables()))
    try:
        yield
    finally:
        os.umask(before)
