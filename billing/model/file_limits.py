"""How much one delivered file may make of itself: settings of the catalogue's policy."""

from dataclasses import dataclass
from typing import Final

MEBIBYTE: Final = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """The longest record, and how many times its own size a compressed file may unpack to.

    Attributes
    ----------
    longest_record
        Bytes of one line, CSV record or JSON record.
    largest_ratio
        Unpacked bytes per delivered byte; held against files that unpack to more than 64 MiB.
    """

    longest_record: int = 16 * MEBIBYTE
    largest_ratio: int = 200

    @property
    def key(self) -> str:
        """What tells these limits from others."""
        return f"{self.longest_record}-{self.largest_ratio}"


DEFAULT_LIMITS: Final = Limits()
EXEMPT_FROM_RATIO: Final = 64 * MEBIBYTE
"""Below this many unpacked bytes no ratio is held against a file: short repetitive files compress well."""
