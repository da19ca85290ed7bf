"""The graph as Dagster sees it: what is loaded, what a backfill covers, what loads without a business."""

import ast
import json
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

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

LOAD = """
import json, os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "polars":
            settled.append("_RJEM_MALLOC_CONF" in os.environ)
settled = []
sys.meta_path.insert(0, Watch())
import dagster as dg
from pipeline.definitions import defs
dg.Definitions.validate_loadable(defs)
from assets.partitions import calendars
heavy = [name for name in ("weasyprint", "pyarrow.dataset", "dagster_webserver", "rich") if name in sys.modules]
months, _, zone = calendars()
found = {"first": months.get_first_partition_key(), "zone": zone, "heavy": heavy}
print(json.dumps(found | {"settled": settled}))
"""


def loaded(home: Path | None, folder: Path) -> dict[str, object]:
    """What the definitions say of themselves when they are loaded by a new process."""
    outside = ("OVERAGE_", "DAGSTER_", "_RJEM_MALLOC_CONF")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    if home is not None:
        environment["OVERAGE_HOME"] = str(home)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::Warning:dagster", "-c", LOAD],
        env=environment | {"PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == ([home] if home else []), "loading writes nothing"
    found: dict[str, object] = json.loads(done.stdout)
    assert found.pop("settled") == [True], "how memory is taken is settled before Polars is loaded"
    return found


def test_the_definitions_load_without_a_home_and_without_what_steps_need(tmp_path: Path) -> None:
    assert loaded(None, tmp_path) == {"first": "2024-01", "zone": "UTC", "heavy": []}


CLUSTER = """
import dagster as dg
from pipeline.definitions import defs
dg.Definitions.validate_loadable(defs)
graph = defs.resolve_asset_graph()
order = [key.to_user_string() for key in graph.toposorted_asset_keys]
jobs = ("billing_month", "draft_month", "ingest")
steps = {name: [node.name for node in defs.resolve_job_def(name).nodes] for name in jobs}
print(order, steps, graph.get(dg.AssetKey("shards")).partitions_def, sep="\\n")
"""


@pytest.mark.parametrize("executor", sized(["celery"], ["celery", "k8s"]))
def test_on_a_cluster_the_graph_has_the_steps_that_are_spread_over_it(tmp_path: Path, executor: str) -> None:
    (tmp_path / "dagster.yaml").write_text("storage: {postgres: {postgres_url: {env: DAGSTER_POSTGRES_URL}}}\n")
    settings = {
        "OVERAGE_EXECUTOR": executor,
        "OVERAGE_REGISTER_URL": "postgresql+psycopg://user@host/name",
        "OVERAGE_BROKER_URL": "amqp://guest@localhost//",
        "DAGSTER_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CLUSTER],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | settings,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    order, jobs, partitions = done.stdout.splitlines()
    found = ast.literal_eval(order)
    assert found.index("shards") < found.index("cycles") < found.index("documents")
    assert found.index("documents") < found.index("drawn_files") < found.index("invoice_files")
    assert {"shards", "drawn_files"} <= set(ast.literal_eval(jobs)["billing_month"])
    assert {"shards", "drawn_files"} & set(ast.literal_eval(jobs)["draft_month"]) == {"shards"}
    assert set(ast.literal_eval(jobs)["ingest"]) == {"ingested_together", "ingest_deliveries"}
    assert partitions.startswith("Monthly")


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


@pytest.mark.parametrize("start", sized(['"2025-05-17"'], ["2025-05-17", '"2025-05-17"', "'2025-05-01'"]))
def test_the_calendars_are_those_of_the_home(tmp_path: Path, start: str) -> None:
    landing = tmp_path / "home" / "landing"
    landing.mkdir(parents=True)
    (landing / "catalogue.yaml").write_text(f"time_zone: America/New_York\npolicy: {{billing_start: {start}}}\n")
    assert loaded(tmp_path / "home", tmp_path) == {"first": "2025-05", "zone": "America/New_York", "heavy": []}


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


def test_the_definitions_load_with_a_broken_catalogue(tmp_path: Path) -> None:
    landing = tmp_path / "home" / "landing"
    landing.mkdir(parents=True)
    (landing / "catalogue.yaml").write_text("time_zone: [Mars\npolicy: {billing_start: soon}\n")
    assert loaded(tmp_path / "home", tmp_path) == {"first": "2024-01", "zone": "UTC", "heavy": []}


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
