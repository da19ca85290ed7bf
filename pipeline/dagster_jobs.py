"""Jobs that a command has executed by Dagster: in its own process, or submitted to a cluster and followed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from assets.run_tags import BY_COMMAND_LINE
from pipeline.dagster_results import result_of
from pipeline.definitions import defs
from pipeline.job_runs import Turn
from pipeline.replaying import end_killed_runs, replay_into
from pipeline.run_results import Result
from pipeline.run_state import Say
from pipeline.sqlite_storage import open_instance


@dataclass(frozen=True)
class JobsByDagster:
    """The jobs of one command.

    Attributes
    ----------
    turn
        The command's lock.
    is_submitted
        Whether runs are submitted to the cluster, and not executed in this process.
    """

    instance: dg.DagsterInstance
    say: Say
    turn: Turn
    is_submitted: bool

    def execute(self, job: str, config: dict[str, Any], partition: str | None, tags: Mapping[str, str]) -> Result:
        """Run a job to its end."""
        definition = defs.resolve_job_def(job)
        if self.is_submitted:
            # Loaded here: a command on one machine does not need it.
            from pipeline.following import follow, submit

            with self.turn.given_up():
                run = submit(self.instance, definition, _logging("INFO") | config, partition, tags)
                followed = follow(self.instance, run, self.say)
            return result_of(followed.all_events, success=followed.success)
        result = definition.execute_in_process(
            run_config=_logging("CRITICAL") | config,
            instance=self.instance,
            partition_key=partition,
            tags={**tags, **BY_COMMAND_LINE},
            raise_on_error=False,
        )
        return result_of(result.all_events, success=result.success)


@contextmanager
def jobs_by_dagster(folder: Path, say: Say, turn: Turn, *, is_submitted: bool) -> Iterator[JobsByDagster]:
    """The jobs of a command, by the Dagster instance in a folder; what is recorded there is replayed into it first."""
    with open_instance(folder) as instance:
        end_killed_runs(instance)
        replay_into(instance, folder)
        yield JobsByDagster(instance, say, turn, is_submitted)


def _logging(level: str) -> dict[str, Any]:
    return {"loggers": {"console": {"config": {"log_level": level}}}}
