"""The graph as Dagster sees it: what is loaded, what a backfill covers, what loads without a business."""

import json
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.asset_backfill import AssetBackfillData

from assets.calendars import FUTURE_DAYS, FUTURE_MONTHS, calendar_reach
from assets.partitions import calendars_of
from pipeline.definitions import definitions, defs
from pipeline.job_lists import MONTHLY
from tests.assets.graph_text import GRAPH, graph_text
from tests.sizes import sized

ROOT = Path(__file__).parents[2]


def test_the_definitions_are_valid_and_can_be_sorted() -> None:
    dg.Definitions.validate_loadable(defs)
    order = [key.to_user_string() for key in defs.resolve_asset_graph().toposorted_asset_keys]
    assert order.index("cycles") < order.index("usage") < order.index("packages") < order.index("charges")
    assert order.index("charges") < order.index("drafts") < order.index("documents") < order.index("invoice_files")
    assert order.index("unbilled") < order.index("documents"), "usage is proven complete before anything is issued"


def test_the_graph_is_as_it_was_written_down() -> None:
    assert graph_text(defs) == GRAPH.read_text(), "if so intended: python -m tests.assets.graph_text"


def test_state_moves_between_months_only_inside_an_asset() -> None:
    graph = defs.resolve_asset_graph()
    to_itself = {key.to_user_string() for key in graph.get_all_asset_keys() if key in graph.get(key).parent_keys}
    assert to_itself == {"levels", "packages"}


def test_the_monthly_job_leaves_no_monthly_asset_out() -> None:
    graph = defs.resolve_asset_graph()
    monthly = {
        key.to_user_string()
        for key in graph.get_all_asset_keys()
        if graph.get(key).is_materializable
        and isinstance(graph.get(key).partitions_def, dg.TimeWindowPartitionsDefinition)
        and not isinstance(graph.get(key).partitions_def, dg.DailyPartitionsDefinition)
    }
    # these two are run when a person asks for them
    assert {*MONTHLY, "corrections", "preview"} == monthly


@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("selected", [MONTHLY, ("usage", "packages", "charges"), ("packages", "charges", "decisions")])
def test_a_backfill_of_two_months_covers_these_two_months_of_every_asset(selected: tuple[str, ...]) -> None:
    months = ["2026-03", "2026-04"]
    with dg.DagsterInstance.ephemeral() as instance:
        backfill = AssetBackfillData.from_asset_partitions(
            asset_graph=defs.resolve_asset_graph(),
            partition_names=months,
            asset_selection=[dg.AssetKey(name) for name in selected],
            dynamic_partitions_store=instance,
            backfill_start_timestamp=time.time(),
            all_partitions=False,
        )
        targets = {
            name: sorted(backfill.target_subset.get_partitions_subset(dg.AssetKey(name)).get_partition_keys())
            for name in selected
        }
    assert targets == dict.fromkeys(selected, months)


def test_a_month_reads_the_same_month_of_every_asset_but_itself() -> None:
    graph = defs.resolve_asset_graph()
    with dg.DagsterInstance.ephemeral() as instance:
        for name in MONTHLY:
            node = graph.get(dg.AssetKey(name))
            assert node.partitions_def is not None
            chosen = node.partitions_def.subset_with_partition_keys(["2026-03"])
            for parent in node.parent_keys & {dg.AssetKey(each) for each in MONTHLY}:
                mapping = graph.get_partition_mapping(node.key, parent)
                found = mapping.get_upstream_mapped_partitions_result_for_partitions(
                    chosen, node.partitions_def, node.partitions_def, dynamic_partitions_store=instance
                )
                expected = "2026-02" if parent == node.key else "2026-03"
                assert list(found.partitions_subset.get_partition_keys()) == [expected], (name, parent)


# --- in a process of its own: what loads where nothing is prepared --------------------------------------------------

# Dagster is loaded once, and this project in a process for each case: what a process loads is never loaded again.
LOAD = """
import json, os, sys
import dagster as dg
assert not {"polars", "pipeline", "assets", "billing"} & set(sys.modules)
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "polars":
            settled.append("_RJEM_MALLOC_CONF" in os.environ)
settled = []
sys.meta_path.insert(0, Watch())
def definitions():
    from pipeline.definitions import defs
    dg.Definitions.validate_loadable(defs)
    from assets.partitions import calendars
    heavy = [name for name in ("weasyprint", "pyarrow.dataset", "dagster_webserver", "rich") if name in sys.modules]
    months, _, zone = calendars()
    return {"first": months.get_first_partition_key(), "zone": zone, "heavy": heavy}
def cluster():
    from pipeline.definitions import defs
    dg.Definitions.validate_loadable(defs)
    graph = defs.resolve_asset_graph()
    jobs = ("billing_month", "draft_month", "ingest")
    return {
        "order": [key.to_user_string() for key in graph.toposorted_asset_keys],
        "jobs": {name: [node.name for node in defs.resolve_job_def(name).nodes] for name in jobs},
        "partitions": str(graph.get(dg.AssetKey("shards")).partitions_def),
    }
for case in json.load(sys.stdin):
    process = os.fork()
    if process == 0:
        os.environ.update(case["environment"])
        os.chdir(case["folder"])
        found = cluster() if case["is_cluster"] else definitions()
        with open(case["said"], "w") as file:
            json.dump(found | {"settled": settled}, file)
        os._exit(0)
    _, status = os.waitpid(process, 0)
    assert status == 0, case
"""
CATALOGUES = {
    "broken": "time_zone: [Mars\npolicy: {billing_start: soon}\n",
    **{
        start: f"time_zone: America/New_York\npolicy: {{billing_start: {start}}}\n"
        for start in sized(['"2025-05-17"'], ["2025-05-17", '"2025-05-17"', "'2025-05-01'"])
    },
}
EXECUTORS = sized(["celery"], ["celery", "k8s"])
CLUSTER = {
    "OVERAGE_REGISTER_URL": "postgresql+psycopg://user@host/name",
    "OVERAGE_BROKER_URL": "amqp://guest@localhost//",
}
Loaded = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """What the definitions say of themselves when new processes load them: without a home, of homes, on clusters."""
    root = tmp_path_factory.mktemp("loaded")
    cases: dict[str, dict[str, str]] = {"nothing": {}}
    for name, text in CATALOGUES.items():
        landing = root / name / "home" / "landing"
        landing.mkdir(parents=True)
        (landing / "catalogue.yaml").write_text(text)
        cases[name] = {"OVERAGE_HOME": str(landing.parent)}
    for executor in EXECUTORS:
        cases[executor] = {"OVERAGE_EXECUTOR": executor, **CLUSTER, "DAGSTER_HOME": str(root / executor)}
        (root / executor).mkdir()
        storage = "storage: {postgres: {postgres_url: {env: DAGSTER_POSTGRES_URL}}}\n"
        (root / executor / "dagster.yaml").write_text(storage)
    (root / "nothing").mkdir()
    before = {name: sorted((root / name).rglob("*")) for name in cases}
    told = [
        {
            "environment": environment,
            "folder": str(root / name),
            "said": str(root / f"{name}.json"),
            "is_cluster": name in EXECUTORS,
        }
        for name, environment in cases.items()
    ]
    outside = ("OVERAGE_", "DAGSTER_", "_RJEM_MALLOC_CONF")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::Warning:dagster", "-c", LOAD],
        env=environment | {"PYTHONPATH": str(ROOT)},
        cwd=root,
        input=json.dumps(told),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {name: sorted((root / name).rglob("*")) for name in cases} == before, "loading writes nothing"
    found = {name: json.loads((root / f"{name}.json").read_text()) for name in cases}
    settled = {name: each.pop("settled") for name, each in found.items()}
    assert settled == {name: [True] for name in cases}, "how memory is taken is settled before Polars is loaded"
    return found


def test_the_definitions_load_without_a_home_and_without_what_steps_need(loaded: Loaded) -> None:
    assert loaded["nothing"] == {"first": "2024-01", "zone": "UTC", "heavy": []}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_on_a_cluster_the_graph_has_the_steps_that_are_spread_over_it(loaded: Loaded, executor: str) -> None:
    order, jobs = (loaded[executor][name] for name in ("order", "jobs"))
    assert order.index("shards") < order.index("cycles") < order.index("documents")
    assert order.index("documents") < order.index("drawn_files") < order.index("invoice_files")
    assert {"shards", "drawn_files"} <= set(jobs["billing_month"])
    assert {"shards", "drawn_files"} & set(jobs["draft_month"]) == {"shards"}
    assert set(jobs["ingest"]) == {"ingested_together", "ingest_deliveries"}
    assert loaded[executor]["partitions"].startswith("Monthly")


MEMORY = """
import importlib, os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "polars":
            print("_RJEM_MALLOC_CONF" in os.environ)
sys.meta_path.insert(0, Watch())
importlib.import_module(sys.argv[1])
"""


@pytest.mark.parametrize(
    "module",
    ["pipeline.run_state", *sized([], ["pipeline.definitions", "pipeline.runs", "pipeline.notices"])],
)
def test_how_memory_is_taken_is_settled_before_polars_is_loaded(module: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "_RJEM_MALLOC_CONF"}
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, module], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"


@pytest.mark.parametrize("start", [name for name in CATALOGUES if name != "broken"])
def test_the_calendars_are_those_of_the_home(loaded: Loaded, start: str) -> None:
    assert loaded[start] == {"first": "2025-05", "zone": "America/New_York", "heavy": []}


def test_one_process_can_define_two_homes(tmp_path: Path) -> None:
    first = {}
    for start in ("2024-07-01", "2025-02-01"):
        landing = tmp_path / start / "landing"
        landing.mkdir(parents=True)
        (landing / "catalogue.yaml").write_text(f"policy: {{billing_start: {start}}}\n")
        graph = definitions(calendars_of(tmp_path / start, None)).resolve_asset_graph()
        partitions = graph.get(dg.AssetKey("usage")).partitions_def
        assert isinstance(partitions, dg.TimeWindowPartitionsDefinition)
        first[start] = partitions.get_first_partition_key()
    assert first == {"2024-07-01": "2024-07", "2025-02-01": "2025-02"}


def test_the_definitions_load_with_a_broken_catalogue(loaded: Loaded) -> None:
    assert loaded["broken"] == {"first": "2024-01", "zone": "UTC", "heavy": []}


def test_calendars_for_people_end_after_the_open_month_and_hold_whatever_was_delivered_or_built(
    tmp_path: Path,
) -> None:
    start, today = date(2026, 1, 1), date(2026, 11, 25)
    assert calendar_reach(tmp_path, start, today, None)[1:] == (FUTURE_MONTHS, FUTURE_DAYS), "unless it is asked for"
    assert calendar_reach(tmp_path, start, today, 1) == (start, 2, 1), "the open month and one more; today"
    (tmp_path / "landing" / "usage" / "2025-12-30").mkdir(parents=True)
    (tmp_path / "landing" / "usage" / "2026" / "11" / "27").mkdir(parents=True)
    for name in ("0001-01-01", "20261128", "9999-12-31", "2027"):
        (tmp_path / "landing" / "usage" / name).mkdir()
    (tmp_path / "lake" / "fingerprints" / "billing_month=2027-01").mkdir(parents=True)
    assert calendar_reach(tmp_path, start, today, 1) == (date(2025, 12, 30), 4, 3)


def test_the_command_line_starts_without_polars_and_dagster() -> None:
    script = "import sys, pipeline.cli; print(sorted({'polars', 'dagster', 'sqlalchemy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
