"""Homes in an object store: the same tables, documents and register as in a folder, and what survives its faults."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from unittest import mock

import dagster as dg
import pytest

from assets.environment import home_folder
from assets.homes import check_out
from billing.store.lock import CHECKING_OUT
from billing.store.object_store import PATIENCE
from billing.store.object_store import ObjectStore as ObjectStoreOfHome
from billing.store.working_copy import WorkingCopy, working_copy
from pipeline.definitions import defs
from pipeline.sensors import new_deliveries
from tests.european_business import change_catalogue
from tests.long_runs import long_only
from tests.mail_servers import Scripted
from tests.object_store import Answer, Environ, ObjectStore, failing
from tests.pipeline import outside
from tests.pipeline.outside import Ended, Landing, bill, bill_once, content_of, overage
from tests.pipeline.test_web_guard import Asked
from tests.postgresql import Server, register_rows
from tests.sizes import LONG, sized

_OF_THE_MACHINE = ("lake/ingest_state.json", "lake/command_at_work")
# months of the runs that are compared and killed
LAST, AS_OF = sized(usual=("2026-01", "2026-01-31"), long=("2026-02", "2026-02-10"))


@dataclass
class Bucket:
    """A home in a bucket, and the workers that use it, each with a folder of its own."""

    store: ObjectStore
    name: str
    register: str | None
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

    def fetched(self, folder: str) -> list[str]:
        """Objects below a folder that were downloaded since the requests were cleared."""
        prefix = f"/{self.name}/home/{folder}"
        found = [path for method, path in self.store.requests if method == "GET" and path.startswith(prefix)]
        return [path.removeprefix(prefix) for path in found]

    def rows(self) -> dict[str, list[tuple[object, ...]]]:
        """The rows of the register."""
        assert self.register is not None
        return register_rows(self.register)

    def move(self, source: object, target: object) -> Ended:
        """Move a home."""
        with mock.patch.dict(os.environ, self.store.environment):
            return overage("move-home", source, target, register=self.register)


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
    landing.use("beta", emails=100, delivered="2026-01-28")
    return landing


@pytest.fixture(scope="module")
def _billed(
    store: ObjectStore, postgresql: Server, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path], Bucket]:
    """Makes buckets with the business billed for January, by a worker that is gone; it is billed once."""
    folder = tmp_path_factory.mktemp("billed")
    first = Bucket(store, store.new_bucket(), postgresql.new_database(), folder / "workers")
    first.deliver(_business(folder / "home"))
    assert first.bill("2026-01", "2026-01-31").status == 0

    def again(folder: Path) -> Bucket:
        return Bucket(store, store.copy_of(first.name), postgresql.copy_of(str(first.register)), folder)

    return again


@pytest.fixture
def billed(_billed: Callable[[Path], Bucket], tmp_path: Path) -> Bucket:
    """The business in a bucket, billed for January."""
    return _billed(tmp_path / "workers")


def _files_of(root: Path, *apart: str) -> Mapping[str, str]:
    """A hash per file of a home, without landing and what belongs to a machine."""
    left_out = ("landing/", ".dagster/", ".store/", ".lock", "register.db", *_OF_THE_MACHINE, *apart)
    return {name: digest for name, digest in content_of(root).items() if not name.startswith(left_out)}


def test_a_home_in_a_bucket_has_the_same_files_and_register_as_one_in_a_folder(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "LEFT_OUT", ())
    landing = _business(tmp_path / "home")
    registered = {"registration": {"scheme": "0060", "id": "123456789"}}
    change_catalogue(landing, seller=registered, policy={"invoice_format": "ubl"})
    bucket.deliver(landing)
    told = [bill(landing.root, LAST, AS_OF, paper=LONG), bucket.bill(LAST, AS_OF, paper=LONG)]
    assert told[0] == told[1]
    if LONG:
        # what a home in shards does in a usual run
        correction = ("correct", "2026-01", "--as-of", "2026-02-11", "--reason", "None.")
        landing.use("acme", on="2026-01-21", emails=4_000, delivered="2026-02-11")
        bucket.deliver(landing)
        told = [overage(*correction, "--home", landing.root, paper=True), bucket.overage(*correction, paper=True)]
        assert told[0] == told[1]
    assert bucket.rows() == register_rows(f"sqlite:///{landing.root / 'register.db'}")

    # a worker that has seen nothing yet gets all of it from the bucket
    assert bucket.overage("verify", worker="other").status == 0
    assert _files_of(bucket.copy("other").root) == _files_of(landing.root)
    documents = {
        name.removeprefix("home/"): content
        for name, content in bucket.store.contents(bucket.name).items()
        if name.startswith("home/documents/")
    }
    assert documents == {
        str(path.relative_to(landing.root)): path.read_bytes() for path in landing.root.glob("documents/*/*")
    }
    assert {Path(name).suffix for name in documents} == {".pdf", ".xml"}
    for arguments in (
        ("show", "documents"),
        ("show", "events"),
        *sized(
            [],
            [
                ("show", "profile", "--as-of", "2026-02-20"),
                ("explain", "INV-2026-000004", "--all"),
                ("preview", "2026-03", "--as-of", "2026-03-10"),
            ],
        ),
        ("check",),
    ):
        here, there = overage(*arguments, "--home", landing.root), bucket.overage(*arguments, worker="other")
        assert (here.status, here.output) == (there.status, there.output)
        assert here.messages.replace(str(landing.root), bucket.url) == there.messages


def test_a_new_worker_reads_no_usage_log_again_and_a_changed_one_only(billed: Bucket, tmp_path: Path) -> None:
    bucket, landing = billed, _business(tmp_path / "home")
    bucket.store.requests.clear()
    ended = bucket.bill("2026-01", "2026-01-31", worker="other")
    assert (ended.status, ended.messages.splitlines()[0]) == (0, "2026-01: nothing moved")
    assert bucket.fetched("landing/usage/") == []
    landing.use("beta", on="2026-01-21", emails=20_000, delivered="2026-01-28")
    bucket.deliver(landing)
    bucket.store.requests.clear()
    assert bucket.bill("2026-01", "2026-01-31", worker="third").status == 0
    assert bucket.fetched("landing/usage/") == ["2026-01-28/usage.jsonl"]
    if not LONG:
        return
    # the same again, in a folder, from nothing
    assert bill(landing.root, "2026-01", "2026-01-31").status == 0
    assert _rows(bucket.overage("show", "events", "--format", "json", worker="other")) == _rows(
        overage("show", "events", "--format", "json", "--home", landing.root)
    )


def test_a_home_in_a_bucket_needs_a_register_on_a_server(bucket: Bucket) -> None:
    for register in (None, "sqlite:///register.db"):
        refused = replace(bucket, register=register).overage("show", "documents")
        assert refused.status == 2
        assert "OVERAGE_REGISTER_URL=postgresql+psycopg://" in refused.messages
    with mock.patch.dict(os.environ, {"OVERAGE_WORK": str(bucket.folder)}):
        refused = overage("show", "documents", "--home", "s3://user:secret@bucket/home")
        sample = overage("sample", "s3://bucket/home")
    assert (refused.status, sample.status) == (2, 2)
    assert "secret" not in refused.messages
    assert "expected a folder" in sample.messages


@contextmanager
def _held_elsewhere(root: Path, holder: str, seconds: float | None = None) -> Iterator[None]:
    """Hold the lock of a working copy as another process does, to the end of the block or for some seconds."""
    with (root / ".lock").open("w") as file:
        file.write(holder)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        timer = threading.Timer(seconds or 0, fcntl.flock, (file, fcntl.LOCK_UN))
        if seconds is not None:
            timer.start()
        yield
        if seconds is not None:
            timer.join()


def test_while_a_run_is_at_work_others_see_all_that_it_has_or_are_refused(
    billed: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = billed
    monkeypatch.setitem(check_out.__kwdefaults__ or {}, "patience", 0)
    assert bucket.bill("2026-01", "2026-01-31").status == 0
    root = bucket.copy().root
    with _held_elsewhere(root, "a run"):
        assert bucket.overage("show", "charges").status == 0
        refused = bucket.bill("2026-01", "2026-01-31")
        assert (refused.status, "another run is at work" in refused.messages) == (2, True)
    # nobody is refused for the seconds of a check-out
    with _held_elsewhere(root, CHECKING_OUT, seconds=0.5):
        assert bucket.bill("2026-01", "2026-01-31").status == 0
    # a worker's step has checked out a part
    bucket.overage("show", "charges", worker="part")
    root = bucket.copy("part").root
    with _held_elsewhere(root, "a run"):
        assert bucket.overage("show", "charges", worker="part").status == 0
        refused = bucket.overage("show", "events", worker="part")
        assert (refused.status, "set OVERAGE_WORK to another folder" in refused.messages) == (2, True)


def test_an_empty_bucket_is_begun_by_init_and_inputs_of_commands_are_put_there(bucket: Bucket, tmp_path: Path) -> None:
    refused = bucket.bill("2026-01", "2026-01-31")
    assert refused.status == 2
    assert f"{bucket.url}: this is no billing home" in refused.messages
    assert bucket.overage("init").status == 0
    assert not LONG or bucket.bill("2026-01", "2026-01-31", worker="other").status == 0
    table = tmp_path / "customers.csv"
    table.write_text(
        "account_id,name,email,address_line1,city,postal_code,country,package,term,started_on,billed_through\n"
        "delta,Delta Inc.,billing@delta.example.com,1 Example Street,Springfield,00000,US,starter,monthly,2026-01-05,"
        "2026-02-05\n"
    )
    ended = bucket.overage("move-in", table, "--as-of", "2026-02-10")
    assert ended.status == 0, ended.messages
    statement = tmp_path / "statement.csv"
    statement.write_text("id,at,amount,currency,account_id\n1,2026-02-11T00:00:00Z,5.00,USD,delta\n")
    ended = bucket.overage("import-payments", statement, "--format", "csv", worker="other")
    assert (ended.status, "1 payment added" in ended.messages) == (0, True), ended
    assert "0 payments added" in bucket.overage("import-payments", statement, "--format", "csv").messages
    landing = [key.removeprefix("home/landing/") for key in bucket.store.contents(bucket.name) if "/landing/" in key]
    assert {name.partition("/")[0] for name in landing} >= {"catalogue.yaml", "accounts", "requests", "payments"}
    assert bucket.bill("2026-02", "2026-02-11", worker="third").messages.endswith(f"{sized(4, 2)} documents issued\n")


def test_the_ui_shows_and_schedules_a_home_in_a_bucket(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    landing = _business(tmp_path / "home")
    bucket.deliver(landing)
    # through Dagster's own runs, whose steps find the home by its URL
    ended = bucket.bill("2026-01", "2026-01-31", dagster=True, worker="other")
    assert (ended.status, ended.messages.splitlines()[-1]) == (0, "3 documents issued")

    environment = {"OVERAGE_WORK": str(tmp_path / "ui"), "OVERAGE_HOME": bucket.url}
    for name, value in {**bucket.store.environment, **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OVERAGE_REGISTER_URL", str(bucket.register))
    cursor = None
    for expected in (1, 0, 1):
        if cursor is not None and expected:
            bucket.store.put(bucket.name, "home/landing/usage/2026-01-21/more.jsonl", b"{}\n")
        with dg.build_sensor_context(cursor=cursor, repository_def=defs.get_repository_def()) as context:
            found = new_deliveries.evaluate_tick(context)
        cursor = found.cursor
        assert len(found.run_requests or []) >= expected
    assert bucket.fetched("landing/usage/").count("2026-01-20/usage.jsonl") == 1  # to ingest it

    app = Asked(home_folder())
    (page,) = [key for key in bucket.store.contents(bucket.name) if key.endswith("INV-2026-000001.pdf")]
    assert app(path=f"/overage/{page.removeprefix('home/')}")[1] == bucket.store.get(bucket.name, page)
    assert app(path="/overage/reports/2026-01.html")[0] == 200
    assert app(path="/overage/reports/2026-09.html")[0] == 404


def test_a_store_that_fails_is_named_and_the_same_command_again_completes(bucket: Bucket, tmp_path: Path) -> None:
    bucket.deliver(_business(tmp_path / "home"))
    half = timedelta(seconds=0.5)
    with mock.patch.dict(PATIENCE, dict.fromkeys(PATIENCE, half)):
        bucket.store.fault = failing(1_000)
        refused = bucket.bill("2026-01", "2026-01-31")
        assert (refused.status, "the store fails" in refused.messages) == (2, True)
        # it fails when the first step is committed
        bucket.store.fault = failing(1_000, method="PUT")
        interrupted = bucket.bill("2026-01", "2026-01-31")
        assert (interrupted.status, "the store fails" in interrupted.messages) == (1, True), interrupted
    # and for a while, which nobody notices
    bucket.store.fault = failing(5)
    ended = bucket.bill("2026-01", "2026-01-31", worker="other")
    assert (ended.status, ended.messages.splitlines()[-1]) == (0, "3 documents issued")
    assert bucket.rows()["documents"][-1][0] == "INV-2026-000003"


def test_what_a_store_has_lost_is_repaired(billed: Bucket) -> None:
    bucket = billed
    assert bucket.overage("show", "charges").status == 0
    before = bucket.store.contents(bucket.name)
    table = (bucket.copy().root / "lake/charges/billing_month=2026-01/charges.parquet").read_bytes()
    for key, content in before.items():
        if content == table or key.endswith("INV-2026-000002.pdf"):
            bucket.store.delete(bucket.name, key)
    interrupted = bucket.overage("show", "charges", worker="other")
    assert (interrupted.status, "run `overage repair`" in interrupted.messages) == (1, True)
    repaired = bucket.overage("repair", worker="other")
    assert repaired.status == 0, repaired
    assert f"{bucket.url}/lake/charges" in repaired.output
    assert bucket.bill("2026-01", "2026-01-31", worker="third").status == 0
    after = bucket.store.contents(bucket.name)
    assert {key for key in before if key not in after and "/objects/" not in key} == set()
    assert table in after.values()


@long_only("another test kills a worker there")
def test_a_worker_that_dies_after_issuing_leaves_what_another_completes(bucket: Bucket, tmp_path: Path) -> None:
    landing = _business(tmp_path / "home")
    bucket.deliver(landing)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    # the documents are in the register, and nothing of the step is in the bucket
    with mock.patch("billing.month.issuing.write_issued", die):
        assert bucket.bill(LAST, AS_OF).status == 1
    assert bucket.rows()["documents"]
    assert bucket.bill(LAST, AS_OF, worker="other").status == 0
    assert bill_once(landing.root, LAST, AS_OF).status == 0
    assert bucket.rows() == register_rows(f"sqlite:///{landing.root / 'register.db'}")
    # records of inputs tell how many documents there were when a step ran
    apart = ("lake/fingerprints/",)
    assert _files_of(bucket.copy("other").root, "documents", *apart) == _files_of(landing.root, "documents", *apart)
    assert f"{LAST}: nothing moved" in bucket.bill(LAST, AS_OF, worker="third").messages


# before the manifest of a step is put, and after; 0 is the first one after the documents were issued
@pytest.mark.parametrize(
    ("step", "is_put"), sized(usual=[(0, False)], long=[(n, put) for n in range(0, 24, 3) for put in (False, True)])
)
def test_a_worker_that_is_killed_leaves_what_another_completes(
    bucket: Bucket, tmp_path: Path, step: int, is_put: bool
) -> None:
    landing = _business(tmp_path / "home")
    bucket.deliver(landing)
    puts, killed = [0], threading.Event()

    def kill(environ: Environ, _: object, well: Callable[[], Answer]) -> Answer:
        if environ["REQUEST_METHOD"] == "PUT" and environ["PATH_INFO"].endswith("manifest.json"):
            puts[0] += 1
            if puts[0] == step or (not step and bucket.rows()["documents"] and not killed.is_set()):
                answer = list(well()) if is_put else []
                run.kill()
                killed.set()
                return answer
        return well()

    bucket.store.fault = kill
    command = [
        sys.executable,
        "-c",
        "from pipeline.cli import main; main()",
        *("bill", LAST, "--as-of", AS_OF),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OVERAGE", "DAGSTER"))}
    environment |= bucket.store.environment | {
        "OVERAGE_WORK": str(tmp_path / "killed"),
        "OVERAGE_HOME": bucket.url,
        "OVERAGE_REGISTER_URL": str(bucket.register),
    }
    run = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL)
    assert run.wait(300) == -signal.SIGKILL
    assert killed.is_set()
    bucket.store.fault = None
    # in a usual run it is killed before it draws anything
    assert bucket.bill(LAST, AS_OF, paper=LONG).status == 0
    assert bill_once(landing.root, LAST, AS_OF, **sized(usual={}, long={"paper": True})).status == 0
    assert bucket.rows() == register_rows(f"sqlite:///{landing.root / 'register.db'}")
    apart = ("lake/fingerprints/", "profiles", "lake/profile", "lake/balances", "lake/allocations", "lake/collections")
    bucket.copy().fetch_documents()
    assert _files_of(bucket.copy().root, *apart) == _files_of(landing.root, *apart)


def test_moved_into_a_bucket_and_back_a_home_is_the_same(bucket: Bucket, tmp_path: Path) -> None:
    landing = _business(tmp_path / "home")
    assert bill_once(landing.root, "2026-01", "2026-01-31").status == 0
    before, register = content_of(landing.root), register_rows(f"sqlite:///{landing.root / 'register.db'}")
    refused = replace(bucket, register=None).move(landing.root, bucket.url)
    assert (refused.status, "set OVERAGE_REGISTER_URL" in refused.messages) == (2, True)
    # killed twice on its way
    for name in ("replace", "delete"):
        with mock.patch.object(ObjectStoreOfHome, name, side_effect=KeyboardInterrupt):
            assert bucket.move(landing.root, bucket.url).status == 1
        assert bucket.overage("show", "documents").status == (2 if name == "replace" else 0)
    moved = bucket.move(landing.root, bucket.url)
    assert moved.status == 0, moved
    assert bucket.rows() == register
    assert bill(landing.root, "2026-02", "2026-02-10").status == 2
    again = bucket.move(landing.root, bucket.url)
    assert again.status == 2

    bucket.store.requests.clear()
    assert "2026-01: nothing moved" in bucket.bill("2026-01", "2026-01-31").messages
    assert bucket.fetched("landing/usage/") == []
    back = tmp_path / "back"
    with mock.patch("billing.reports.move_home._leave", side_effect=KeyboardInterrupt):
        assert bucket.move(bucket.url, back).status == 1
    moved = bucket.move(bucket.url, back)
    assert moved.status == 0, moved
    after = content_of(back)
    apart = {"lake/ingest_state.json", "register.db", ".lock"}
    assert {name: after[name] for name in after if name not in apart and not name.startswith(".dagster")} == {
        name: before[name] for name in before if name not in apart and not name.startswith(".dagster")
    }
    refused = bucket.overage("show", "documents", worker="other")
    assert (refused.status, f"this home was moved to {back}" in refused.messages) == (2, True)
    if not LONG:
        assert "2026-01: nothing moved" in bill(back, "2026-01", "2026-01-31", register=bucket.register).messages
        return
    ended = bill(back, "2026-02", "2026-02-10", register=bucket.register)
    assert (ended.status, ended.messages.splitlines()[-1]) == (0, "3 documents issued")


def test_a_home_is_moved_to_where_there_is_none(bucket: Bucket, tmp_path: Path) -> None:
    landing = _business(tmp_path / "home")
    bucket.store.put(bucket.name, "home/other", b"1")
    refused = bucket.move(landing.root, bucket.url)
    assert (refused.status, "found objects of another home" in refused.messages) == (2, True)
    assert bucket.move(landing.root, tmp_path / "there").status == 2
    refused = bucket.move(f"s3://{bucket.name}/none", tmp_path / "there")
    assert (refused.status, "found no home that can be moved" in refused.messages) == (2, True)
    (landing.folder / "link.csv").symlink_to(landing.folder / "accounts.csv")
    refused = bucket.move(landing.root, f"s3://{bucket.name}/none")
    assert (refused.status, "link.csv: found a link" in refused.messages) == (2, True)


def test_check_store_says_what_holds(bucket: Bucket) -> None:
    with mock.patch.dict(os.environ, bucket.store.environment):
        ended = overage("check-store", bucket.url)
        assert (ended.status, ended.output.count("holds: ")) == (0, 7)
        assert bucket.store.contents(bucket.name) == {}
        assert overage("check-store", "s3://nowhere/home").status == 2


def _rows(ended: Ended) -> list[object]:
    rows: list[object] = json.loads(ended.output)
    return rows


def test_a_worker_that_holds_no_pdf_sends_those_of_the_store(billed: Bucket) -> None:
    bucket = billed
    with Scripted() as server, mock.patch.dict(os.environ, {"OVERAGE_SMTP_URL": server.url}):
        sent = bucket.overage("send", "2026-01", worker="other")
        assert sent.status == 0, sent.messages
        again = bucket.overage("send", "2026-01")
    assert "0 mails sent" in again.messages
    assert len(server.mails) == 3
    assert all(next(mail.iter_attachments()).get_content() for mail in server.mails)
    table = bucket.overage("show", "mails", "--format", "json", worker="third")
    assert {row["status"] for row in json.loads(table.output)} == {"sent"}
