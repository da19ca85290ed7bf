"""What every peer has to come to."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path

import polars as pl

from billing.model.card_numbers import mask_card_number_column

_CENT = Decimal("0.01")


@dataclass(frozen=True)
class Answer:
    """The result of a month.

    Attributes
    ----------
    overage
        Money by metric, to the cent.
    rejects
        Rows set aside, by reason.
    texts
        A hash of the texts of all rows set aside, whatever order they are kept in. What looks like a card number (some
        random ids do) is masked in all of them, because Overage keeps none.
    """

    overage: dict[str, str]
    counted: int
    duplicates: int
    rejects: dict[str, int]
    texts: str

    @classmethod
    def of(
        cls,
        overage: Mapping[str, Decimal],
        counted: int,
        duplicates: int,
        rejects: Mapping[str, int],
        texts: Iterable[str],
    ) -> "Answer":
        """An answer in the form in which answers are compared."""
        masked = mask_card_number_column(pl.Series("text", list(texts), dtype=pl.String)).to_list()
        return cls(
            overage={metric: str(Decimal(amount).quantize(_CENT)) for metric, amount in sorted(overage.items())},
            counted=int(counted),
            duplicates=int(duplicates),
            rejects={reason: int(rows) for reason, rows in sorted(rejects.items())},
            texts=hashlib.sha256("\n".join(sorted(masked)).encode()).hexdigest(),
        )


def run(bill: Callable[[Path, Path], Answer]) -> None:
    """Run a peer, `HOME FOLDER`, and print its answer."""
    home, folder = map(Path, sys.argv[1:3])
    print(json.dumps(asdict(bill(home, folder))))
