"""Limits on one delivered file, from the catalogue's policy."""

from dataclasses import dataclass
from typing import Final

MEBIBYTE: Final = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """Largest record, and largest ratio of unpacked to compressed bytes.

    Attributes
    ----------
    longest_record
        Bytes of one line, CSV record or JSON record.
    largest_ratio
        Unpacked bytes per delivered byte; checked for files that unpack to more than 64 MiB.
    """

    longest_record: int = 16 * MEBIBYTE
    largest_ratio: int = 200

    @property
    def key(self) -> str:
        """Cache key of these limits."""
        return f"{self.longest_record}-{self.largest_ratio}"


DEFAULT_LIMITS: Final = Limits()
EXEMPT_FROM_RATIO: Final = 64 * MEBIBYTE
"""Unpacked bytes up to which no ratio is checked: short repetitive files compress well."""
