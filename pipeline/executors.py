"""Step executor: the only place that chooses it."""

import dagster as dg

from assets.environment import executor_name


def executor() -> dg.ExecutorDefinition:
    """The executor that $OVERAGE_EXECUTOR names: `multiprocess` (one machine, the default) or `in_process`.

    Raises
    ------
    ValueError
        When the name is unknown.
    """
    name = executor_name()
    if name == "multiprocess":
        # Months never overlap, and the steps of a month mostly run in sequence: two processes are enough.
        return dg.multiprocess_executor.configured({"max_concurrent": 2})
    if name == "in_process":
        return dg.in_process_executor
    raise ValueError(f"OVERAGE_EXECUTOR: found {name!r}, expected multiprocess or in_process")
