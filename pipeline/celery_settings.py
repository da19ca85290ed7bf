"""Settings of Celery: the same for the head of a run, which sends steps, and for the workers, which execute them."""

from typing import Any, Final

import dagster as dg

from assets.environment import broker_url

_SETTINGS: Final[dict[str, Any]] = {
    # A step is done when it has ended, not when it was taken: a lost worker's step goes to another one.
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    # A worker at work answers no heartbeat: the broker sees a lost one by its connection.
    "broker_heartbeat": 0,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # A step is sent when the broker has written it down; a broker that starts again is waited for.
    "broker_transport_options": {"confirm_publish": True},
    "task_publish_retry_policy": {"max_retries": 60, "interval_start": 0, "interval_step": 1, "interval_max": 5},
    "worker_redirect_stdouts": False,
    "result_expires": 7 * 24 * 3600,
    "task_default_priority": 5,
    "task_default_queue": "dagster",
}


def app_arguments(instance: dg.DagsterInstance) -> dict[str, Any]:
    """Broker, store of results and settings, as Dagster's Celery executor takes them.

    Results are kept in Dagster's own database: those in a queue would be lost with the broker.
    """
    runs: Any = instance.run_storage
    return {"broker": broker_url(), "backend": f"db+{runs.postgres_url}", "config_source": dict(_SETTINGS)}
