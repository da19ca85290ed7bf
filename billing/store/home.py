"""A billing home: one folder per business. Its files and folders by name."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from billing.model.columns import Table


@dataclass(frozen=True)
class Home:
    """Where a business keeps what goes in and what comes out."""

    root: Path

    @property
    def landing(self) -> Path:
        """What others write; the pipeline only reads it."""
        return self.root / "landing"

    @property
    def lake(self) -> Path:
        """Parquet tables, one folder each."""
        return self.root / "lake"

    @property
    def documents(self) -> Path:
        """The issued PDFs, by billing month."""
        return self.root / "documents"

    @property
    def profiles(self) -> Path:
        """One page per account."""
        return self.root / "profiles"

    @property
    def reports(self) -> Path:
        """A page and a PDF per billing month."""
        return self.root / "reports"

    @property
    def register_path(self) -> Path:
        """The register of issued documents, when it is not a server."""
        return self.root / "register.db"

    def partition(self, table: Table, month: str) -> Path:
        """The file of a monthly table for one billing month."""
        return self.lake / table.name / f"billing_month={month}" / f"{table.name}.parquet"

    def whole(self, table: Table) -> Path:
        """The file of a table that is not partitioned."""
        return self.lake / table.name / f"{table.name}.parquet"

    def delivery(self, table: Table, day: date) -> Path:
        """The file of a table by day of delivery (rejects, ingest)."""
        return self.lake / table.name / f"delivery_day={day.isoformat()}" / f"{table.name}.parquet"

    def document_file(self, month: str, number: str) -> Path:
        """Where the PDF of an issued document stands."""
        return self.documents / month / f"{number}.pdf"
