"""A month billed by a cluster: the same bytes as on one machine, whatever is killed, and nothing billed twice."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import sqlalchemy as sa

from billing.sample import write_sample
from tests.object_store import ObjectStore
from tests.pipeline.cluster import PATIENCE, Cluster, kill
from tests.pipeline.outside import Ended, content_of, overage
from tests.pipeline.saboteur import AFTER_ISSUE, BEFORE_ISSUE, HALF_A_SHARD, IN_ISSUE
from tests.postgresql import Server, register_rows
from tests.rabbitmq import Broker
from tests.sizes import sized

pytestmark = pytest.mark.usefixtures("profiles")

ACCOUNTS, MONTHS = sized(usual=(24, 1), long=(60, 5))
LAST = f"2026-{MONTHS:02}"
AS_OF = f"{LAST}-28"
BILL = ("bill", LAST, "--as-of", AS_OF)
# it has the times of files
APART = ("lake/ingest_state.json",)


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
    return home


def on_one_machine(home: Path, register: str, shards: str = "4") -> Ended:
    """Bill in this process."""
    with mock.patch.dict(os.environ, {"OVERAGE_SHARDS": shards}):
        return overage(*BILL, "--home", home, register=register, paper=True)


@pytest.fixture(scope="module")
def wanted(
    landing: Path, postgresql: Server, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Ended, dict[str, str], dict[str, list[tuple[object, ...]]]]:
    """What one process says and makes of it, with the same shards: the command's end, all files, the register."""
    home, register = tmp_path_factory.mktemp("one") / "home", postgresql.new_database()
    shutil.copytree(landing, home)
    ended = on_one_machine(home, register)
    return ended, files_of(home), register_rows(register)


def files_of(home: Path) -> dict[str, str]:
    return {name: found for name, found in content_of(home).items() if name not in APART}


Wanted = tuple[Ended, dict[str, str], dict[str, list[tuple[object, ...]]]]


def differences(home: Path, register: str, wanted: Wanted) -> list[str]:
    """What differs from the wanted files and rows."""
    found, rows = files_of(home), register_rows(register)
    return [
        *sorted(name for name in {*found, *wanted[1]} if found.get(name) != wanted[1].get(name)),
        *(name for name in rows if rows[name] != wanted[2][name]),
    ]


def test_a_command_on_a_cluster_says_and_makes_what_it_does_on_one_machine_while_worker_and_broker_are_killed(
    landing: Path, postgresql: Server, broker: Broker, wanted: Wanted, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(landing, home)
    with Cluster.running(tmp_path / "cluster", postgresql, broker) as cluster:
        cluster.daemon(home)
        one = cluster.worker("one", home, HALF_A_SHARD)
        command = cluster.command(home, *BILL)
        cluster.reached("one", command)
        cluster.worker("two", home, AFTER_ISSUE)
        kill(one)
        cluster.reached("two", command)
        broker.kill()
        broker.start()
        cluster.go("two")
        status = command.wait(PATIENCE)
        said = cluster.said("command")
        assert (status, said) == (wanted[0].status, wanted[0].messages), cluster.said("one")
        assert differences(home, cluster.register, wanted) == []
        # nothing moved since: the same again does nothing, on one machine, too
        assert on_one_machine(home, cluster.register).messages.count("nothing moved") == MONTHS


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
        cluster.wait(lambda: on_one_machine(home, cluster.register).status == wanted[0].status, workers[0])
        assert all(worker.poll() is None for worker in workers)
        starts = started_steps(cluster)
    assert "another run is at work" in refused.messages
    # drafts of a month that was issued are made from another state of the register
    moved = [name for name in differences(home, cluster.register, wanted) if "/drafted." not in name]
    assert moved == []
    assert set(starts.values()) == {1}, starts
    assert "shards.bill_shard[0000_0255]" in starts


def started_steps(cluster: Cluster) -> Counter[str]:
    """How often each step was begun, by the records."""
    engine = sa.create_engine(cluster.environment["DAGSTER_POSTGRES_URL"])
    query = "SELECT step_key FROM event_logs WHERE dagster_event_type = 'STEP_START'"
    with engine.connect() as connection:
        found = Counter(row[0] for row in connection.exec_driver_sql(query))
    engine.dispose()
    return found


def test_a_cluster_bills_a_home_in_a_bucket_whose_workers_share_no_folder(
    landing: Path, postgresql: Server, broker: Broker, wanted: Wanted, tmp_path: Path
) -> None:
    with (
        ObjectStore.running() as store,
        mock.patch.dict(os.environ, store.environment),
        Cluster.running(tmp_path / "cluster", postgresql, broker) as cluster,
    ):
        bucket = store.new_bucket()
        url = f"s3://{bucket}/home"
        for path in sorted((landing / "landing").rglob("*")):
            if path.is_file():
                store.put(bucket, f"home/{path.relative_to(landing)}", path.read_bytes())
        cluster.daemon(url)
        one = cluster.worker("one", url, HALF_A_SHARD)
        command = cluster.command(url, *BILL)
        cluster.reached("one", command)
        cluster.worker("two", url)
        kill(one)
        status = command.wait(PATIENCE)
        assert (status, cluster.said("command")) == (wanted[0].status, wanted[0].messages)
        with mock.patch.dict(os.environ, {"OVERAGE_WORK": str(tmp_path / "later")}):
            assert overage("verify", "--home", url, register=cluster.register).status == 0
    (copy,) = (tmp_path / "later").iterdir()
    # folders of a worker hold no inputs that nobody opened
    apart = ("landing/", ".store/", ".lock")
    ours, theirs = (
        {name: found for name, found in files.items() if not name.startswith(apart)}
        for files in (files_of(copy), wanted[1])
    )
    assert sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)) == []
    assert register_rows(cluster.register) == wanted[2]
