"""A month billed by a cluster: the same bytes as on one machine, whatever is killed, and nothing billed twice."""

import os
import re
import shutil
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import pytest
import sqlalchemy as sa

from billing.sample import write_sample
from tests.landing import keep_few_deliveries
from tests.object_store import Fault, ObjectStore, failing, slow
from tests.pipeline.cluster import PATIENCE, SHARDS, Cluster, can_mount, kill
from tests.pipeline.outside import Ended, content_of, overage
from tests.pipeline.saboteur import AFTER_ISSUE, BEFORE_ISSUE, FULL_DISK, HALF_A_SHARD, IN_ISSUE
from tests.postgresql import Server, register_rows
from tests.rabbitmq import Broker
from tests.sizes import LONG, sized

pytestmark = pytest.mark.usefixtures("profiles")

ACCOUNTS, MONTHS = sized(usual=(10, 1), long=(60, 5))
DAYS_BETWEEN_DELIVERIES = sized(usual=8, long=1)
LAST = f"2026-{MONTHS:02}"
AS_OF = f"{LAST}-28"
BILL = ("bill", LAST, "--as-of", AS_OF)
# it has the times of files; what belongs to a machine; what others write
APART = ("lake/ingest_state.json", ".lock", ".store/", "landing/", "lake/command_at_work")
TAGS = {"overage/as_of", "overage/followed", "overage/head", "overage/serial", "overage/versions"}
SPREAD = {"parse_deliveries", "write_deliveries", "bill_shard", "draw_block"}


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A RabbitMQ broker."""
    with Broker.running() as broker:
        yield broker


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the inputs of a business that everything happens to."""
    home = tmp_path_factory.mktemp("landing") / "home"
    write_sample(home, accounts=ACCOUNTS, months=MONTHS, events_per_account_day=2, seed=3)
    keep_few_deliveries(home, DAYS_BETWEEN_DELIVERIES)
    return home


@dataclass(frozen=True)
class Kept:
    """A home, by the name that commands take, and where its files are on this machine after `verify`."""

    name: str
    environment: dict[str, str]
    folder: Callable[[], Path]
    store: ObjectStore | None = None

    def suffers(self, fault: Fault) -> None:
        """Let its store fail, if it is in one."""
        if self.store is not None:
            self.store.fault = fault


@contextmanager
def home_in(place: str, landing: Path, folder: Path) -> Iterator[Kept]:
    """A home with the inputs of the business, in a folder or a bucket."""
    if place == "folder":
        shutil.copytree(landing, folder / "home")
        yield Kept(str(folder / "home"), {}, lambda: folder / "home")
        return
    work = folder / "work"
    with ObjectStore.running() as store:
        bucket = store.new_bucket()
        for path in sorted(path for path in landing.rglob("*") if path.is_file()):
            store.put(bucket, f"home/{path.relative_to(landing)}", path.read_bytes())
        environment = {**store.environment, "OVERAGE_WORK": str(work)}
        yield Kept(f"s3://{bucket}/home", environment, lambda: next(work.iterdir()), store)


def on_one_machine(home: Path | str, register: str) -> Ended:
    """Bill in this process, with the same shards."""
    with mock.patch.dict(os.environ, {"OVERAGE_SHARDS": str(SHARDS)}):
        return overage(*BILL, "--home", home, register=register, paper=True)


@pytest.fixture(scope="module")
def wanted(
    landing: Path, postgresql: Server, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Ended, dict[str, str], dict[str, list[tuple[object, ...]]]]:
    """What one process says and makes of it, with the same shards: the command's end, all files, the register."""
    home, register = tmp_path_factory.mktemp("one") / "home", postgresql.new_database()
    shutil.copytree(landing, home)
    ended = on_one_machine(home, register)
    ended = replace(ended, messages=ended.messages.replace(str(home), "HOME"))
    return ended, files_of(home), register_rows(register)


def files_of(home: Path) -> dict[str, str]:
    return {name: found for name, found in content_of(home).items() if not name.startswith(APART)}


Wanted = tuple[Ended, dict[str, str], dict[str, list[tuple[object, ...]]]]


def differences(home: Path, register: str, wanted: Wanted) -> list[str]:
    """What differs from the wanted files and rows."""
    found, rows = files_of(home), register_rows(register)
    return [
        *sorted(name for name in {*found, *wanted[1]} if found.get(name) != wanted[1].get(name)),
        *(name for name in rows if rows[name] != wanted[2][name]),
    ]


@pytest.mark.parametrize("place", sized(usual=["bucket"], long=["folder", "bucket"]))
def test_a_command_on_a_cluster_says_and_makes_what_it_does_on_one_machine_while_parts_of_it_fail(
    landing: Path, postgresql: Server, broker: Broker, wanted: Wanted, tmp_path: Path, place: str
) -> None:
    with (
        Cluster.running(tmp_path / "cluster", postgresql, broker) as cluster,
        home_in(place, landing, tmp_path) as home,
    ):
        cluster.environment |= home.environment
        cluster.daemon(home.name)
        home.suffers(slow(0.01))
        said = _said_on_a_full_disk(cluster, home) if LONG and home.store and can_mount(tmp_path) else ""
        one = cluster.worker("one", home.name, HALF_A_SHARD)
        command = cluster.command(home.name, *BILL)
        cluster.reached("one", command)
        two = cluster.worker("two", home.name, AFTER_ISSUE)
        kill(one)
        cluster.reached("two", command)
        broker.kill()
        broker.start()
        home.suffers(failing(30))
        cluster.go("two")
        status = command.wait(PATIENCE)
        said += cluster.said("command").replace(home.name, "HOME")
        assert (status, said) == (wanted[0].status, wanted[0].messages), cluster.said("one")
        # idle workers hold no connections to the register
        cluster.wait(lambda: postgresql.comes_to(0, cluster.register), two)
        # every piece of work was spread over the workers
        spread = Counter(step.partition("[")[0] for step in started_steps(cluster) if "[" in step)
        assert {step.rpartition(".")[2] for step, times in spread.items() if times > 1} == SPREAD
        # what steps tell each other is on no page
        assert all(tag.startswith((".dagster/", "dagster/")) or tag in TAGS for tag in tags(cluster)), tags(cluster)
        # on one machine nothing is left to do, and everything agrees
        with mock.patch.dict(os.environ, home.environment):
            assert on_one_machine(home.name, cluster.register).messages.count("nothing moved") == MONTHS
            assert overage("verify", "--home", home.name, register=cluster.register).status == 0
            assert differences(home.folder(), cluster.register, wanted) == []


def _said_on_a_full_disk(cluster: Cluster, home: Kept) -> str:
    """Bill with a worker whose disk is full: what a command says before that, which none says again."""
    worker = cluster.worker("full", home.name, FULL_DISK, disk=True)
    command = cluster.command(home.name, *BILL)
    status, log = command.wait(PATIENCE), cluster.folder / "command.log"
    said = log.read_text()
    kill(worker)
    log.unlink()
    done, _, failed = said.partition("interrupted: ")
    assert (status, "2026-01: shards.bill_shard[" in failed) == (1, True), said
    assert "No space left on device" in failed and socket.gethostname() in failed, said
    return done


# in a usual run the worst place
@pytest.mark.parametrize("place", sized(usual=[IN_ISSUE], long=[BEFORE_ISSUE, IN_ISSUE, AFTER_ISSUE]))
def test_a_head_that_is_killed_issues_nothing_twice_and_steps_that_are_delivered_twice_are_done_once(
    landing: Path, postgresql: Server, broker: Broker, wanted: Wanted, tmp_path: Path, place: str
) -> None:
    home = tmp_path / "home"
    shutil.copytree(landing, home)
    with Cluster.running(tmp_path / "cluster", postgresql, broker) as cluster:
        workers = [cluster.worker(name, home, place) for name in ("one", "two")]
        head = cluster.head(home, "2026-01", AS_OF)
        cluster.wait(lambda: any((cluster.folder / name / "reached").exists() for name in ("one", "two")), head)
        kill(head)
        refused = on_one_machine(home, cluster.register)
        for name in ("one", "two"):
            cluster.go(name)
        # the step goes on without its head: the next run waits for it
        cluster.wait(lambda: steps(cluster, "STEP_SUCCESS") == started_steps(cluster), workers[0])
        cluster.wait(lambda: on_one_machine(home, cluster.register).status == wanted[0].status, workers[0])
        assert all(worker.poll() is None for worker in workers)
        starts = started_steps(cluster)
    assert "another run is at work" in refused.messages
    # A step that runs again after its month was closed records fewer inputs, or a later register.
    moved = [
        name
        for name in differences(home, cluster.register, wanted)
        if not name.startswith("lake/fingerprints/") or "/fingerprint." in name
    ]
    assert moved == []
    assert set(starts.values()) == {1}, starts
    assert f"shards.bill_shard[0000_{1024 // SHARDS - 1:04}]" in starts


# what Dagster begins again has left out steps that had not begun
@pytest.mark.parametrize("step", sized(usual=[], long=["parse_deliveries", "bill_shard"]))
def test_a_run_whose_head_is_lost_is_begun_again_and_followed(
    landing: Path, postgresql: Server, broker: Broker, wanted: Wanted, tmp_path: Path, step: str
) -> None:
    home = tmp_path / "home"
    shutil.copytree(landing, home)
    with Cluster.running(tmp_path / "cluster", postgresql, broker) as cluster:
        cluster.daemon(home)
        for name in ("one", "two"):
            cluster.worker(name, home)
        command = cluster.command(home, *BILL)
        cluster.wait(lambda: any(step in begun for begun in started_steps(cluster)), command)
        # the newest run is at work
        newest = "SELECT run_id FROM runs ORDER BY id DESC LIMIT 1"
        told = recorded(cluster, f"SELECT event FROM event_logs WHERE run_id = ({newest}) ORDER BY id")  # noqa: S608
        os.kill(int(re.findall(r"\(pid: (\d+)\)", " ".join(told))[0]), signal.SIGKILL)
        status, said = command.wait(PATIENCE), cluster.said("command").replace(str(home), "HOME").splitlines()
        assert status == wanted[0].status, said
        assert [line for line in said if "was lost with the machine that led it" not in line] == wanted[
            0
        ].messages.splitlines()
        assert len(said) == len(wanted[0].messages.splitlines()) + 1
        assert on_one_machine(home, cluster.register).messages.count("nothing moved") == MONTHS
        assert differences(home, cluster.register, wanted) == []


def started_steps(cluster: Cluster) -> Counter[str]:
    """How often each step was begun, by the records."""
    return steps(cluster, "STEP_START")


def steps(cluster: Cluster, event: str) -> Counter[str]:
    """How often each step came to an event, by the records."""
    query = f"SELECT step_key FROM event_logs WHERE dagster_event_type = '{event}'"  # noqa: S608 # our own word
    return Counter(recorded(cluster, query))


def tags(cluster: Cluster) -> set[str]:
    """The tags of all runs, by the records."""
    return set(recorded(cluster, "SELECT DISTINCT key FROM run_tags"))


def recorded(cluster: Cluster, query: str) -> list[str]:
    """The first column of what Dagster's database answers."""
    engine = sa.create_engine(cluster.environment["DAGSTER_POSTGRES_URL"])
    with engine.connect() as connection:
        found = [str(row[0]) for row in connection.exec_driver_sql(query)]
    engine.dispose()
    return found
