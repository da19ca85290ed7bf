"""Jobs that commands execute themselves: the operations of Dagster's jobs, in Dagster's order, for the same months."""

from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.api import create_execution_plan

from assets.calendars import reach_of
from assets.partitions import calendars_of
from assets.run_tags import HIDDEN
from pipeline.definitions import defs
from pipeline.direct_runs import operations_of
from pipeline.job_lists import BY_COMMAND

CONFIG = {
    "issue_documents": {"documents": {"config": {"reviewed": ""}}},
    "correct": {"corrections": {"config": {"reason": "late"}}},
}


@pytest.mark.parametrize("job", BY_COMMAND)
def test_a_job_has_the_operations_of_dagsters_each_after_those_it_builds_on(job: str) -> None:
    definition = defs.resolve_job_def(job)
    plan = create_execution_plan(definition, run_config={"ops": CONFIG.get(job, {})})
    after = {key: {str(each) for each in keys} for key, keys in plan.get_executable_step_deps().items()}
    assert {operation.name: set(names) for operation, names in operations_of(job)} == after
    levels = plan.get_steps_to_execute_by_level()
    assert [operation.name for operation, _ in operations_of(job)] == [step.key for each in levels for step in each]


def test_dagster_executes_them_in_this_order() -> None:
    done: list[str] = []

    def op(name: str) -> dg.OpDefinition:
        @dg.op(name=name, ins={each: dg.In(dg.Nothing) for each in after[name]}, out=dg.Out(dg.Nothing))
        def made() -> None:
            done.append(name)

        return made

    operations = operations_of("billing_month")
    after = {operation.name: sorted(names) for operation, names in operations}
    graph = dg.GraphDefinition(
        name="month",
        node_defs=[op(name) for name in sorted(after)],
        dependencies={
            name: {each: dg.DependencyDefinition(each) for each in names} for name, names in after.items() if names
        },
    )
    assert graph.to_job().execute_in_process().success
    assert done == [operation.name for operation, _ in operations]


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland"])
@pytest.mark.parametrize("ahead", [None, 0, 1])
def test_the_calendars_of_commands_reach_as_far_as_dagsters(tmp_path: Path, zone: str, ahead: int | None) -> None:
    (tmp_path / "landing").mkdir()
    (tmp_path / "landing" / "catalogue.yaml").write_text(f"time_zone: {zone}\npolicy: {{billing_start: 2025-05-17}}\n")
    (tmp_path / "lake" / "fingerprints" / "billing_month=2031-02").mkdir(parents=True)
    months, days, _ = calendars_of(tmp_path, ahead)
    found = reach_of(tmp_path, date(2025, 5, 17), zone, ahead)
    assert found[:2] == (months.get_first_partition_key(), months.get_last_partition_key())
    ends = (days.get_first_partition_key(), days.get_last_partition_key())
    assert tuple(day.isoformat() for day in found[2:]) == ends


def test_tags_that_are_on_no_page_have_dagsters_prefix() -> None:
    from dagster._core.storage.tags import HIDDEN_TAG_PREFIX

    assert HIDDEN == HIDDEN_TAG_PREFIX
