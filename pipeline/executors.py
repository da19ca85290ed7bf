"""Where the steps of a run are carried out: chosen here, and nowhere else."""

import dagster as dg

from assets.environment import executor_name


def executor() -> dg.ExecutorDefinition:
    """The executor that $OVERAGE_EXECUTOR names: `multiprocess` (one machine, the default) or `in_process`.

    Raises
    ------
    ValueError
        When the name is not known.
    """
    name = executor_name()
    if name == "multiprocess":
        # months never overlap and a month's steps mostly wait for each other: two at a time fill a small machine
        return dg.multiprocess_executor.configured({"max_concurrent": 2})
    if name == "in_process":
        return dg.in_process_executor
    raise ValueError(f"OVERAGE_EXECUTOR: found {name!r}, expected multiprocess or in_process")
