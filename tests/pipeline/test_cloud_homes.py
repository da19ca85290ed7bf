"""Homes in Google Cloud Storage and in Azure: billed, verified by another worker, and moved back to a folder."""

import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from werkzeug.wrappers import Request, Response

from tests.cloud_stores import Blobs, azure, google, running
from tests.pipeline import outside
from tests.pipeline.outside import Ended, Landing, bill, overage
from tests.postgresql import Server, register_rows
from tests.sizes import LONG, sized


@pytest.mark.parametrize(("scheme", "answer"), sized([("az", azure)], [("az", azure), ("gs", google)]))
def test_a_home_in_another_store_is_that_of_a_folder(
    scheme: str,
    answer: Callable[[Blobs, Request], Response],
    postgresql: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outside, "LEFT_OUT", ())
    landing = Landing(tmp_path / "home")
    for name in ("acme", "beta"):
        landing.customer(name)
    landing.use("acme", emails=16_000)
    register, url = postgresql.new_database(), f"{scheme}://container/home"

    def there(*arguments: object, worker: str = "one") -> Ended:
        with mock.patch.dict(os.environ, environment | {"OVERAGE_WORK": str(tmp_path / worker)}):
            return overage(*arguments, register=register, paper=LONG)

    with running(answer, ["container"]) as (blobs, environment):
        assert there("check-store", url).status == 0
        for path in sorted(landing.folder.rglob("*")):
            if path.is_file():
                name = f"home/landing/{path.relative_to(landing.folder)}"
                blobs.write("container", name, path.read_bytes())
        here = bill(landing.root, "2026-01", "2026-02-20", paper=LONG)
        assert there("bill", "2026-01", "--as-of", "2026-02-20", "--home", url) == here
        assert register_rows(register) == register_rows(f"sqlite:///{landing.root / 'register.db'}")
        assert there("verify", "--home", url, worker="two").status == 0
        documents = {
            name.removeprefix("home/"): content
            for name, (content, _) in blobs.containers["container"].items()
            if name.startswith("home/documents/")
        }
        assert documents
        assert documents == {
            str(path.relative_to(landing.root)): path.read_bytes() for path in landing.root.glob("documents/*/*")
        }
        assert there("move-home", url, tmp_path / "back", worker="three").status == 0
    assert overage("verify", "--home", tmp_path / "back", register=register).status == 0
