"""Dagster's records on PostgreSQL: connections that are kept, and what happens to them."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from pipeline.postgres_storage import PooledPostgresStorage
from tests.pipeline.cluster import PRODUCTION
from tests.postgresql import Server


@dg.op
def counted() -> int:
    return 1


@dg.job
def counting() -> None:
    counted()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that a test may stop."""
    with Server.running() as server:
        yield server


@pytest.fixture
def url(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The database of the instance in `tmp_path`."""
    url = server.new_records()
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", url)
    shutil.copy(PRODUCTION / "dagster.yaml", tmp_path)
    return url


def test_instances_of_a_process_keep_one_connection(server: Server, url: str, tmp_path: Path) -> None:
    for _ in range(3):
        with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
            assert counting.execute_in_process(instance=instance).success
    assert server.comes_to(1, url)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.get_ref().storage, PooledPostgresStorage)
        # A worker makes its instance from the run's reference.
        again = dg.DagsterInstance.from_ref(instance.get_ref())
        assert again.get_runs_count() == instance.get_runs_count() == 3
        run = instance.get_runs()[0]
        assert {entry.step_key for entry in again.all_logs(run.run_id)} == {None, "counted"}
        # Threads do not wait for each other's connection.
        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(lambda _: instance.get_runs_count(), range(64))) == {3}
    assert server.comes_to(1, url)


def test_a_connection_that_the_server_has_ended_is_replaced(server: Server, url: str, tmp_path: Path) -> None:
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.get_runs_count() == 0
        server.stop()
        server.start()
        assert counting.execute_in_process(instance=instance).success
        assert instance.get_runs_count() == 1
    assert server.comes_to(1, url)


def test_no_tables_are_made_where_the_settings_say_so(url: str) -> None:
    settings = {"postgres_url": url, "should_autocreate_tables": False}
    PooledPostgresStorage.from_config_value(None, settings)
    engine = sa.create_engine(url)
    assert sa.inspect(engine).get_table_names() == []
    engine.dispose()
