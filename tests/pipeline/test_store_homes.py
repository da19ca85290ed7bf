"""Homes in an object store: the same tables, documents and register as in a folder, and what survives its faults."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from billing.store.working_copy import WorkingCopy, working_copy
from tests.object_store import ObjectStore
from tests.pipeline import outside
from tests.pipeline.outside import Ended, Landing, bill, content_of, overage
from tests.postgresql import Server, register_rows

_OF_THE_MACHINE = ("lake/ingest_state.json", "lake/command_at_work")


@dataclass
class Bucket:
    """A home in a bucket, and the workers that use it, each with a folder of its own."""

    store: ObjectStore
    name: str
    register: str
    folder: Path

    @property
    def url(self) -> str:
        return f"s3://{self.name}/home"

    def deliver(self, landing: Landing) -> None:
        """Put every file of a landing folder."""
        for path in sorted(landing.folder.rglob("*")):
            if path.is_file():
                self.store.put(self.name, f"home/landing/{path.relative_to(landing.folder)}", path.read_bytes())

    def overage(self, *arguments: object, worker: str = "worker", **how: bool) -> Ended:
        """Run a command on a worker."""
        with mock.patch.dict(os.environ, {**self.store.environment, "OVERAGE_WORK": str(self.folder / worker)}):
            return overage(*arguments, "--home", self.url, register=self.register, **how)

    def bill(self, month: str, as_of: str, *arguments: str, worker: str = "worker", **how: bool) -> Ended:
        """Bill on a worker."""
        return self.overage("bill", month, "--as-of", as_of, *arguments, worker=worker, **how)

    def copy(self, worker: str = "worker") -> WorkingCopy:
        """The working copy of a worker."""
        (root,) = (self.folder / worker).iterdir()
        found = working_copy(root)
        assert found is not None
        return found

    def requests(self, method: str, path: str = "") -> list[str]:
        """Paths of the requests that arrived since the last call."""
        found = [each for verb, each in self.store.requests if verb == method and path in each]
        return found


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    """A server of S3."""
    with ObjectStore.running() as store:
        yield store


@pytest.fixture
def bucket(store: ObjectStore, postgresql: Server, tmp_path: Path) -> Iterator[Bucket]:
    """An empty home in a bucket of a server that is well."""
    yield Bucket(store, store.new_bucket(), postgresql.new_database(), tmp_path / "workers")
    store.fault = None


def _business(root: Path) -> Landing:
    """Three customers, one of whom uses too much, pays late and cancels."""
    landing = Landing(root)
    for name in ("acme", "beta", "gamma"):
        landing.customer(name)
    landing.use("acme", emails=16_000)
    landing.use("beta", emails=100, delivered="2026-02-03")
    return landing


def _files_of(root: Path, *apart: str) -> Mapping[str, str]:
    """A hash per file of a home, without landing and what belongs to a machine."""
    left_out = ("landing/", ".dagster/", ".store/", ".lock", "register.db", *_OF_THE_MACHINE, *apart)
    return {name: digest for name, digest in content_of(root).items() if not name.startswith(left_out)}


def test_a_home_in_a_bucket_has_the_same_files_and_register_as_one_in_a_folder(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "LEFT_OUT", ())
    landing = _business(tmp_path / "home")
    bucket.deliver(landing)
    told = [bill(landing.root, "2026-02", "2026-02-10", paper=True), bucket.bill("2026-02", "2026-02-10", paper=True)]
    assert told[0] == told[1]
    correction = ("correct", "2026-01", "--as-of", "2026-02-11", "--reason", "None.")
    landing.use("acme", on="2026-01-21", emails=4_000, delivered="2026-02-11")
    bucket.deliver(landing)
    told = [overage(*correction, "--home", landing.root, paper=True), bucket.overage(*correction, paper=True)]
    assert told[0] == told[1]
    assert register_rows(bucket.register) == register_rows(f"sqlite:///{landing.root / 'register.db'}")

    # a worker that has seen nothing yet gets all of it from the bucket
    assert bucket.overage("verify", worker="other").status == 0
    assert _files_of(bucket.copy("other").root) == _files_of(landing.root)
    documents = {
        name.removeprefix("home/"): content
        for name, content in bucket.store.contents(bucket.name).items()
        if name.startswith("home/documents/")
    }
    assert documents == {
        str(path.relative_to(landing.root)): path.read_bytes() for path in landing.root.glob("documents/*/*.pdf")
    }
    for arguments in (
        ("show", "documents"),
        ("show", "drafts"),
        ("show", "events"),
        ("show", "rejects"),
        ("show", "profile", "--as-of", "2026-02-20"),
        ("explain", "INV-2026-000004", "--all"),
        ("preview", "2026-03", "--as-of", "2026-03-10"),
        ("verify",),
        ("check",),
    ):
        here, there = overage(*arguments, "--home", landing.root), bucket.overage(*arguments, worker="other")
        assert (here.status, here.output) == (there.status, there.output)
        assert here.messages.replace(str(landing.root), bucket.url) == there.messages
