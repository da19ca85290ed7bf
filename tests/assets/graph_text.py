"""The asset graph as text: one line per asset, check, job and schedule, so that a change shows as a line that changed.

Write it anew with `python -m tests.assets.graph_text` and look at the difference.
"""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg

GRAPH = Path(__file__).with_name("graph.txt")


def graph_text(defs: dg.Definitions) -> str:
    return "\n".join(
        [*_assets(defs), "", *_checks(defs), "", *_jobs(defs), "", *_schedules(defs), "", *_sensors(defs), ""]
    )


def _assets(defs: dg.Definitions) -> Iterator[str]:
    graph = defs.resolve_asset_graph()
    group = ""
    for key in sorted(graph.get_all_asset_keys(), key=lambda key: (graph.get(key).group_name, key.to_user_string())):
        node = graph.get(key)
        if node.group_name != group:
            group = node.group_name
            yield f"[{group}]"
        name = key.to_user_string()
        partitions = {dg.DailyPartitionsDefinition: " by day", dg.TimeWindowPartitionsDefinition: " by month"}
        by = partitions[type(node.partitions_def)] if node.partitions_def else ""
        parents = sorted(
            f"{parent.to_user_string()} of the month before" if parent == key else parent.to_user_string()
            for parent in node.parent_keys
        )
        kind = "" if node.is_materializable else " (written by others)"
        yield f"{name}{by}{kind}" + (f" <- {', '.join(parents)}" if parents else "")


def _checks(defs: dg.Definitions) -> Iterator[str]:
    graph = defs.resolve_asset_graph()
    for key in sorted(graph.asset_check_keys, key=str):
        blocks = "blocking " if graph.get_check_spec(key).blocking else ""
        yield f"{blocks}check {key.asset_key.to_user_string()}.{key.name}"


def _jobs(defs: dg.Definitions) -> Iterator[str]:
    for job in sorted(defs.resolve_all_job_defs(), key=lambda job: job.name):
        if not job.name.startswith("__"):
            selected = job.asset_layer.selected_asset_keys
            yield f"job {job.name}: {', '.join(sorted(key.to_user_string() for key in selected))}"


def _schedules(defs: dg.Definitions) -> Iterator[str]:
    for schedule in sorted(defs.schedules or [], key=lambda schedule: schedule.name):
        assert isinstance(schedule, dg.ScheduleDefinition)
        yield f"schedule {schedule.name}: {schedule.cron_schedule} -> {schedule.job_name}"


def _sensors(defs: dg.Definitions) -> Iterator[str]:
    for sensor in sorted(defs.sensors or [], key=lambda sensor: sensor.name):
        jobs = ", ".join(job.name for job in sensor.jobs) if sensor.has_jobs else "starts no run"
        yield f"sensor {sensor.name} -> {jobs}"


if __name__ == "__main__":
    from pipeline.definitions import defs

    GRAPH.write_text(graph_text(defs))
