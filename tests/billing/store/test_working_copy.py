"""Working copies of a home in a store: check-out, commit, and what a killed command leaves."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from billing.model.errors import InterruptedRunError, RefusedError
from billing.store.home import Home
from billing.store.landing_copy import check_out_landing, put_inputs, remote_usage
from billing.store.lock import lock
from billing.store.working_copy import (
    MANIFEST,
    WorkingCopy,
    bring,
    make_working_copy,
    name_of,
    reading,
    step_in_store,
    synchronized,
    with_urls,
    working_copy,
)
from billing.store.working_files import Needs, of_shard
from tests.object_store import Answer, Environ
from tests.object_store import ObjectStore as Server

TABLE = "lake/cycles/billing_month=2026-01/cycles.parquet"
OTHER = "lake/usage/billing_month=2026-01/usage.parquet"
PDF = "documents/2026-01/INV-2026-000001.pdf"


class Worker:
    """A worker with a folder of its own."""

    def __init__(self, store: Server, bucket: str, folder: Path) -> None:
        self.store, self.bucket = store, bucket
        found = working_copy(make_working_copy(f"s3://{bucket}/home", folder))
        assert found is not None
        self.copy: WorkingCopy = found

    def write(self, path: str, content: str) -> None:
        """Replace a file as the home's writers do."""
        target = self.copy.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.with_name(".writing-1").write_text(content)
        target.with_name(".writing-1").replace(target)

    def read(self, path: str) -> str | None:
        found = self.copy.root / path
        return found.read_text() if found.exists() else None

    def files(self) -> set[str]:
        root = self.copy.root
        found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
        return {str(path) for path in found if not path.parts[0].startswith(".")}

    def asked(self) -> list[tuple[str, str]]:
        """Method and key of the requests since the last call."""
        found = [(method, path.removeprefix(f"/{self.bucket}/home/")) for method, path in self.store.requests]
        self.store.requests.clear()
        return found


@pytest.fixture
def workers(store: Server, tmp_path: Path) -> tuple[Worker, Worker]:
    """Two workers on one home."""
    bucket = store.new_bucket()
    one, two = (Worker(store, bucket, tmp_path / name) for name in ("one", "two"))
    store.requests.clear()
    return one, two


def test_what_one_worker_commits_another_checks_out(workers: tuple[Worker, Worker]) -> None:
    one, two = workers
    with one.copy.held():
        one.write(TABLE, "cycles")
        one.write("reports/2026-01.html", "report")
        one.write(PDF, "paper")
    two.copy.check_out()
    assert (two.read(TABLE), two.read("reports/2026-01.html")) == ("cycles", "report")
    with two.copy.held():
        two.write(TABLE, "cycles, again")
        (two.copy.root / "reports/2026-01.html").unlink()
    one.copy.check_out()
    assert one.files() == {TABLE, PDF}
    assert one.read(TABLE) == "cycles, again"


def test_unchanged_files_are_neither_sent_nor_fetched_again(workers: tuple[Worker, Worker]) -> None:
    one, _ = workers
    with one.copy.held():
        one.write(TABLE, "cycles")
    one.asked()
    for _ in range(2):
        with one.copy.held():
            pass
    assert one.asked() == [("GET", MANIFEST)] * 2
    with one.copy.held():
        one.write(OTHER, "cycles")
    sent = [key for method, key in one.asked() if method == "PUT"]
    # the bytes, the objects of four folders, and the manifest, which goes last
    assert len(sent) == 6
    assert sent[-1] == MANIFEST


def test_documents_are_known_by_name_and_fetched_when_asked_for(workers: tuple[Worker, Worker], store: Server) -> None:
    one, two = workers
    with one.copy.held():
        one.write(PDF, "paper")
    assert store.get(one.bucket, f"home/{PDF}") == b"paper"
    one.asked()
    two.copy.check_out()
    assert two.read(PDF) == ""
    assert ("GET", PDF) not in two.asked()
    with two.copy.held():
        pass
    assert ("PUT", MANIFEST) not in two.asked()
    two.copy.fetch_documents()
    assert two.read(PDF) == "paper"
    two.copy.check_out()
    assert two.read(PDF) == "paper"
    assert ("GET", PDF) in two.asked()


def test_a_document_in_the_store_keeps_its_bytes(workers: tuple[Worker, Worker], store: Server) -> None:
    one, _ = workers
    one.copy.check_out()
    # a killed run has sent it, and did not commit
    store.put(one.bucket, f"home/{PDF}", b"the original")
    with one.copy.held():
        one.write(PDF, "drawn again")
    assert one.read(PDF) == "the original"
    assert store.get(one.bucket, f"home/{PDF}") == b"the original"
    one.copy.check_out()
    assert one.read(PDF) == "the original"


def test_a_document_that_the_store_lost_is_left_out_by_a_repair(workers: tuple[Worker, Worker], store: Server) -> None:
    one, two = workers
    with one.copy.held():
        one.write(PDF, "paper")
        one.write(TABLE, "cycles")
    store.delete(one.bucket, f"home/{PDF}")
    two.copy.check_out()
    assert PDF in two.files()
    with two.copy.held():
        two.copy.fetch_documents()
    two.copy.check_out()
    assert two.files() == {TABLE}


def test_a_killed_command_leaves_nothing_behind(workers: tuple[Worker, Worker]) -> None:
    one, _ = workers
    with one.copy.held():
        one.write(TABLE, "cycles")
    with pytest.raises(KeyboardInterrupt), one.copy.held():
        one.write(TABLE, "half of the cycl")
        one.write(OTHER, "usage")
        one.write("lake/usage/.writing-7-usage.parquet", "us")
        raise KeyboardInterrupt
    one.copy.check_out()
    assert one.files() == {TABLE}
    assert one.read(TABLE) == "cycles"


@pytest.mark.parametrize("at", ["objects", MANIFEST])
def test_a_kill_before_the_manifest_commits_nothing_and_the_second_try_does(
    workers: tuple[Worker, Worker], at: str
) -> None:
    one, two = workers
    with one.copy.held():
        one.write(TABLE, "before")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    name = "put_new" if at == "objects" else "replace"
    with mock.patch.object(one.copy.store, name, killed), pytest.raises(KeyboardInterrupt), one.copy.held():
        one.write(TABLE, "after")
    two.copy.check_out()
    assert two.read(TABLE) == "before"
    with one.copy.held():
        assert one.read(TABLE) == "before"
        one.write(TABLE, "after")
    two.copy.check_out()
    assert two.read(TABLE) == "after"


def test_files_of_a_commit_that_was_not_recorded_are_not_fetched_again(workers: tuple[Worker, Worker]) -> None:
    one, _ = workers
    with (
        mock.patch("billing.store.working_copy.write_record", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        one.write(TABLE, "cycles")
        one.copy.commit()
    one.asked()
    one.copy.check_out()
    assert one.read(TABLE) == "cycles"
    assert [key for method, key in one.asked() if method == "GET" and key.startswith("objects")] == []


def test_of_two_runs_without_a_common_lock_the_later_is_told(workers: tuple[Worker, Worker]) -> None:
    one, two = workers
    words = "another run wrote this home while this one was at work"
    with pytest.raises(InterruptedRunError, match=words), one.copy.held():
        one.write(TABLE, "one")
        with two.copy.held():
            two.write(OTHER, "two")
    one.copy.check_out()
    assert one.files() == {OTHER}


def test_steps_of_shards_commit_at_once_unless_they_wrote_the_same_file(workers: tuple[Worker, Worker]) -> None:
    one, two = workers
    one.copy.check_out()
    two.copy.check_out()
    one.write(TABLE, "one")
    two.write(OTHER, "two")
    assert one.copy.commit(merge=True)
    assert two.copy.commit(merge=True)
    two.copy.check_out()
    assert two.read(TABLE) == "one"
    one.copy.check_out()
    assert one.read(OTHER) == "two"
    # the same task delivered twice
    for each in (one, two):
        each.write(TABLE, "the same")
    assert one.copy.commit(merge=True)
    assert two.copy.commit(merge=True)
    for each in (one, two):
        each.write(TABLE, str(each.copy.root))
    one.copy.commit(merge=True)
    with pytest.raises(InterruptedRunError, match="another process wrote the same files"):
        two.copy.commit(merge=True)


def test_steps_of_a_led_run_see_what_others_committed(workers: tuple[Worker, Worker]) -> None:
    head, worker = workers
    home, away = Home(head.copy.root), Home(worker.copy.root)
    head.store.put(head.bucket, "home/landing/catalogue.yaml", b"currency: USD")
    with lock(home, holder="run"), synchronized(home.root, shared=True):
        assert head.read("landing/catalogue.yaml") == "currency: USD"
        head.write("lake/plans/plan.parquet", "plan")
        with synchronized(home.root):
            pass
        # on another machine
        with step_in_store(away, "run"):
            assert worker.read("lake/plans/plan.parquet") == "plan"
            worker.write(TABLE, "cycles")
        # in another process of the head's machine: it works in the head's folder, beside unfinished work
        head.write("lake/unfinished.parquet", "of another step")
        with step_in_store(home, "run"):
            assert (head.read(TABLE), head.read("lake/unfinished.parquet")) == ("cycles", "of another step")
            head.write(OTHER, "usage")
        with pytest.raises(KeyboardInterrupt), step_in_store(away, "run"):
            worker.write("lake/killed.parquet", "half")
            raise KeyboardInterrupt
        with synchronized(home.root):
            assert head.read(TABLE) == "cycles"
            (head.copy.root / "lake/plans/plan.parquet").unlink()
    worker.copy.check_out()
    assert worker.files() == {TABLE, OTHER, "lake/unfinished.parquet", "landing/catalogue.yaml"}
    assert working_copy(worker.copy.root / ".." / worker.copy.root.name) is worker.copy


def test_a_step_brings_what_the_one_before_did_not_need(workers: tuple[Worker, Worker]) -> None:
    head, worker = workers
    with lock(Home(head.copy.root), holder="run"), synchronized(head.copy.root, shared=True):
        with step_in_store(Home(worker.copy.root), "run"):
            worker.write(TABLE, "cycles")
            worker.write("lake/plans/plan.parquet", "plan")
        with reading(head.copy.root, Needs(("lake/plans/**",))), step_in_store(Home(head.copy.root), "run"):
            assert head.files() == {"lake/plans/plan.parquet"}
        with step_in_store(Home(head.copy.root), "run"):
            assert head.files() == {"lake/plans/plan.parquet", TABLE}
    with reading(worker.copy.root, Needs(("lake/plans/**",))), synchronized(worker.copy.root):
        worker.write(OTHER, "usage")
        (worker.copy.root / "lake/plans/plan.parquet").unlink()
        bring(worker.copy.root, Needs(("lake/**",)))
        assert worker.files() == {TABLE, OTHER}


def test_what_is_not_needed_is_neither_fetched_nor_lost(workers: tuple[Worker, Worker]) -> None:
    one, two = workers
    months = ("2026-01", "2026-02", "2026-03")
    events = [f"lake/events/event_month={month}/2026-03-01.parquet" for month in months]
    parts = [f"lake/cycles/billing_month=2026-01/cycles.{part}.parquet" for part in ("0000-0511", "0512-1023")]
    rest = ["lake/cycles/billing_month=2025-12/cycles.parquet", "lake/ingest_state.json", "lake/given.parquet"]
    others = ["lake/parsed_files/delivery_day=2026-01-01/a.parquet", PDF, "reports/2026-01.html"]
    with one.copy.held():
        for path in (*events, *parts, *rest, *others):
            one.write(path, path)
    two.copy.needs = of_shard(months[:2], 500, 511)
    with two.copy.held():
        assert two.files() == {*events[:2], parts[0], *rest}
        two.write(parts[0], "again")
    with one.copy.held():
        assert one.read(parts[0]) == "again"
        assert one.files() == {*events, *parts, *rest, *others}
        one.write(events[1], "again")
    # what has changed meanwhile and is not needed goes
    two.copy.check_out(Needs((events[2],)))
    assert two.files() == {events[0], events[2], parts[0], *rest}
    two.copy.check_out()
    assert two.files() == one.files()


def test_damaged_objects_are_refused(workers: tuple[Worker, Worker], store: Server) -> None:
    one, two = workers
    with one.copy.held():
        one.write(TABLE, "cycles")
    (key,) = [key for key, content in store.contents(one.bucket).items() if content == b"cycles"]
    store.put(one.bucket, key, b"cyclex")
    with pytest.raises(InterruptedRunError, match=r"found other bytes .* for lake/cycles"):
        two.copy.check_out()
    store.delete(one.bucket, key)
    with pytest.raises(InterruptedRunError, match="names an object that the store does not have"):
        two.copy.check_out()
    assert two.files() == set()
    two.copy.tolerates_loss = True
    two.copy.check_out()
    assert two.read(TABLE) == ""


def test_objects_of_earlier_states_are_deleted_and_written_again_where_they_come_back(
    workers: tuple[Worker, Worker], store: Server
) -> None:
    one, two = workers
    for content in ("before", "after"):
        with one.copy.held():
            one.write(TABLE, content)
            one.write(OTHER, "usage")
    assert b"before" in store.contents(one.bucket).values()
    two.copy.check_out()
    assert two.copy.remove_old_objects() == 5  # a file, and the folders that it was in
    assert b"before" not in store.contents(one.bucket).values()
    with one.copy.held():
        one.write(TABLE, "before")
    two.copy.check_out()
    assert (two.read(TABLE), two.read(OTHER)) == ("before", "usage")


def test_a_home_of_a_newer_version_or_a_lost_manifest_is_refused(workers: tuple[Worker, Worker], store: Server) -> None:
    one, two = workers
    with one.copy.held():
        one.write(TABLE, "cycles")
    manifest = json.loads(store.get(one.bucket, f"home/{MANIFEST}"))
    store.put(one.bucket, f"home/{MANIFEST}", json.dumps(manifest | {"format": 99, "written_by": "9.0"}).encode())
    with pytest.raises(RefusedError, match=r"found a home that version 9\.0 wrote"):
        two.copy.check_out()
    store.delete(one.bucket, f"home/{MANIFEST}")
    with pytest.raises(RefusedError, match=r"manifest\.json is gone"):
        one.copy.check_out()
    assert one.read(TABLE) == "cycles"


def test_messages_name_a_home_by_its_url(workers: tuple[Worker, Worker], tmp_path: Path) -> None:
    copy = workers[0].copy
    assert name_of(copy.root) == copy.url
    assert name_of(tmp_path) == str(tmp_path)
    assert with_urls(f"{copy.root}/lake/a.parquet is damaged") == f"{copy.url}/lake/a.parquet is damaged"


# --- landing ---------------------------------------------------------------------------------------------------------


def test_inputs_are_here_and_usage_logs_by_name(workers: tuple[Worker, Worker], store: Server) -> None:
    one, _ = workers
    log = "home/landing/usage/2026-01-20/usage.jsonl"
    for key, content in (
        ("home/landing/catalogue.yaml", b"currency: USD"),
        (log, b"{}\n"),
        ("home/landing/x.tar", b"x"),
    ):
        store.put(one.bucket, key, content)
    check_out_landing(one.copy)
    assert one.read("landing/catalogue.yaml") == "currency: USD"
    assert one.read("landing/usage/2026-01-20/usage.jsonl") == one.read("landing/x.tar") == ""
    usage = remote_usage(one.copy.root / "landing")
    assert usage is not None
    file = usage["2026-01-20/usage.jsonl"]
    assert (file.fetched().read_bytes(), file.stamp[0]) == (b"{}\n", 3)
    one.asked()
    check_out_landing(one.copy)
    assert file.fetched().read_bytes() == b"{}\n"
    assert [key for _, key in one.asked() if key.startswith("landing")] == []

    store.put(one.bucket, log, b"{ }\n")
    store.put(one.bucket, "home/landing/catalogue.yaml", b"currency: EUR")
    store.delete(one.bucket, "home/landing/x.tar")
    (file.cache / file.name).unlink()
    with pytest.raises(InterruptedRunError, match="was changed while it was read"):
        file.fetched()
    check_out_landing(one.copy)
    again = remote_usage(one.copy.root / "landing")
    assert again is not None
    assert again["2026-01-20/usage.jsonl"].stamp != file.stamp
    assert again["2026-01-20/usage.jsonl"].fetched().read_bytes() == b"{ }\n"
    assert one.files() == {"landing/catalogue.yaml", "landing/usage/2026-01-20/usage.jsonl"}
    assert one.read("landing/catalogue.yaml") == "currency: EUR"


def test_an_input_that_is_replaced_while_it_is_read_is_listed_again(
    workers: tuple[Worker, Worker], store: Server
) -> None:
    one, _ = workers
    key = "home/landing/accounts.csv"
    store.put(one.bucket, key, b"account_id")
    replaced = [2]

    def replace(environ: Environ, _: object, well: Callable[[], Answer]) -> Answer:
        if environ["REQUEST_METHOD"] == "GET" and environ["PATH_INFO"].endswith(key) and replaced[0]:
            replaced[0] -= 1
            store.put(one.bucket, key, b"account_id,name" + b"," * replaced[0])
        return well()

    store.fault = replace
    check_out_landing(one.copy)
    assert one.read("landing/accounts.csv") == "account_id,name"
    replaced[0] = 9
    with pytest.raises(InterruptedRunError, match="was changed while it was read"):
        store.put(one.bucket, key, b"account")
        check_out_landing(one.copy)


def test_of_many_cached_logs_the_latest_stay(workers: tuple[Worker, Worker], store: Server) -> None:
    one, _ = workers
    for day in (1, 2, 3):
        store.put(one.bucket, f"home/landing/usage/2026-01-0{day}/a.jsonl", b"{}" * day)
    check_out_landing(one.copy)
    usage = remote_usage(one.copy.root / "landing") or {}
    paths = [usage[f"2026-01-0{day}/a.jsonl"].fetched() for day in (1, 2, 3)]
    for age, path in enumerate(paths):
        os.utime(path, (1_000 + age, 1_000 + age))
    with mock.patch("billing.store.landing_copy._MOST_CACHED_BYTES", 10):
        check_out_landing(one.copy)
    assert [path.exists() for path in paths] == [False, True, True]


def test_a_folder_that_a_console_made_is_no_file_and_a_name_twice_is_refused(
    workers: tuple[Worker, Worker], store: Server
) -> None:
    one, _ = workers
    store.put(one.bucket, "home/landing/usage/2026-01-20", b"")
    store.put(one.bucket, "home/landing/usage/2026-01-20/a.jsonl", b"{}")
    check_out_landing(one.copy)
    assert one.files() == {"landing/usage/2026-01-20/a.jsonl"}
    store.put(one.bucket, "home/landing/usage/2026-01-20", b"{}")
    with pytest.raises(RefusedError, match="found an object and a folder of the same name"):
        check_out_landing(one.copy)


def test_inputs_that_a_command_wrote_are_created_and_never_overwritten(
    workers: tuple[Worker, Worker], store: Server
) -> None:
    one, two = workers
    for each in (one, two):
        check_out_landing(each.copy)
    one.write("landing/payments/import-1.jsonl", "{}")
    assert put_inputs(one.copy) == ["payments/import-1.jsonl"]
    two.write("landing/payments/import-1.jsonl", "{}")
    assert put_inputs(two.copy) == ["payments/import-1.jsonl"]
    two.write("landing/payments/import-1.jsonl", "{ }")
    with pytest.raises(InterruptedRunError, match="nothing is overwritten"):
        put_inputs(two.copy)
    assert store.get(one.bucket, "home/landing/payments/import-1.jsonl") == b"{}"
    check_out_landing(two.copy)
    assert two.read("landing/payments/import-1.jsonl") == "{}"


def test_a_home_in_a_folder_has_no_working_copy(tmp_path: Path) -> None:
    assert working_copy(tmp_path) is None
    assert remote_usage(tmp_path / "landing") is None
