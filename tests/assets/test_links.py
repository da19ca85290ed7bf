"""Pages of Dagster say where things are, wherever they were made."""

from pathlib import Path

from assets.declared import Link, Place
from assets.links import link, place
from billing.store.home import Home
from billing.store.working_copy import make_working_copy


def test_a_file_of_a_home_in_a_store_is_named_by_its_url_and_not_by_a_workers_copy(tmp_path: Path) -> None:
    for root, name in (
        (tmp_path, str(tmp_path)),
        (make_working_copy("s3://bucket/home", tmp_path), "s3://bucket/home"),
    ):
        home = Home(root)
        folder = home.documents / "2026-01"
        said = f"{name}/documents/2026-01"
        assert place(home, folder) in (Place(said), said)
        assert link(home, folder / "INV-1.pdf") == Link("/overage/documents/2026-01/INV-1.pdf")
