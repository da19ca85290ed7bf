"""Checksums of identifiers whose scheme has one, as Peppol looks at them (PEPPOL-COMMON-R040 to R050)."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from stdnum import ean
from stdnum.au import abn
from stdnum.be import vat as belgian
from stdnum.no import orgnr as norwegian
from stdnum.se import orgnr as swedish

from billing.model.seller import Identifier

_CHECKS: Final[Mapping[str, tuple[str, Callable[[str], bool] | None]]] = {
    "0007": ("[0-9]{10}", swedish.is_valid),
    "0088": ("[0-9]+", ean.is_valid),
    "0151": ("[0-9]{11}", abn.is_valid),
    "0184": ("(DK)?[0-9]{8}", None),
    "0192": ("[0-9]{9}", norwegian.is_valid),
    "0208": ("[0-9]{10}", belgian.is_valid),
}


CHECKED: Final = tuple(_CHECKS)
"""Schemes whose ids are looked at."""


@lru_cache(maxsize=100_000)
def is_usable(identifier: Identifier) -> bool:
    """Whether an id has the form and the checksum of its scheme; of other schemes nothing is known."""
    form, is_valid = _CHECKS.get(identifier.scheme, (".*", None))
    return re.fullmatch(form, identifier.id) is not None and (is_valid is None or is_valid(identifier.id))
