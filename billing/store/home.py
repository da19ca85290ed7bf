"""Billing home: the folder of one business, and the paths of its files."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from billing.model.buckets import WHOLE, BucketRange
from billing.model.columns import Table
from billing.model.numbering import file_name

EXPORTS: Final = "export"
"""Folder of a month's documents that were written again in another format."""
_MONTH: Final = "billing_month="


@dataclass(frozen=True)
class Home:
    """Paths of the inputs and outputs of one business.

    Attributes
    ----------
    buckets
        Of a shard: the buckets of its accounts. It reads and writes its own part of the monthly tables.
    """

    root: Path
    buckets: BucketRange | None = None

    @property
    def landing(self) -> Path:
        """Inputs; the pipeline only reads them."""
        return self.root / "landing"

    @property
    def lake(self) -> Path:
        """Parquet tables, one folder each."""
        return self.root / "lake"

    @property
    def documents(self) -> Path:
        """Issued PDFs, by billing month."""
        return self.root / "documents"

    @property
    def profiles(self) -> Path:
        """Profile pages, one per account."""
        return self.root / "profiles"

    @property
    def reports(self) -> Path:
        """Month reports, a page and a PDF each."""
        return self.root / "reports"

    @property
    def register_path(self) -> Path:
        """The SQLite register of issued documents, when no database server is configured."""
        return self.root / "register.db"

    def partition(self, table: Table, month: str) -> Path:
        """Path of a monthly table for one billing month, or of a shard's part of it."""
        return self.month_folder(table, month) / f"{self.part_name(table.name)}.parquet"

    def parts(self, table: Table, month: str) -> list[Path]:
        """The files of a monthly table for one billing month, sorted: one, or one a shard.

        Of a shard, those with rows of its accounts: they hold others' too, where the month had other shards.
        """
        folder = self.month_folder(table, month)
        try:
            # A month asks 170 times, and `glob` takes several times as long.
            found = [
                path for path in folder.iterdir() if path.name.startswith(table.name) and path.suffix == ".parquet"
            ]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(path for path in found if self.buckets is None or self.buckets.overlaps(_buckets_of(path)))

    def months(self, table: Table) -> list[str]:
        """The months of which there is a folder of a monthly table; sorted."""
        return sorted(path.name.removeprefix(_MONTH) for path in (self.lake / table.name).glob(f"{_MONTH}*"))

    def holds_all_of(self, part: Path) -> bool:
        """Whether all rows of a part of a monthly table are of this home's accounts."""
        buckets = _buckets_of(part)
        return self.buckets is None or (self.buckets.first <= buckets.first and buckets.last <= self.buckets.last)

    def month_folder(self, table: Table, month: str) -> Path:
        """Folder of a monthly table for one billing month."""
        return self.lake / table.name / f"{_MONTH}{month}"

    def part_name(self, name: str) -> str:
        """The name of a file, or of a shard's part of it."""
        return name if self.buckets is None or self.buckets.is_whole else f"{name}.{self.buckets.name}"

    def whole(self, table: Table) -> Path:
        """Path of an unpartitioned table."""
        return self.lake / table.name / f"{table.name}.parquet"

    def delivery(self, table: Table, day: date) -> Path:
        """Path of a table for one delivery day (rejects, ingest)."""
        return self.lake / table.name / f"delivery_day={day.isoformat()}" / f"{table.name}.parquet"

    @property
    def resources(self) -> Path:
        """Files that documents are drawn with, each named by the SHA-256 of its bytes."""
        return self.lake / "resources"

    def document_file(self, month: str, number: str) -> Path:
        """Path of the PDF of an issued document."""
        return self.documents / month / f"{file_name(number)}.pdf"

    def invoice_file(self, month: str, number: str) -> Path:
        """Path of the e-invoice beside the PDF of an issued document."""
        return self.documents / month / f"{file_name(number)}.xml"


def _buckets_of(part: Path) -> BucketRange:
    """The buckets whose accounts are in a part of a monthly table."""
    return BucketRange.named(part.stem.partition(".")[2]) or WHOLE
