"""Where the steps of a run are executed, by $OVERAGE_EXECUTOR: what may be chosen, and what each choice needs.

Imports no Dagster: a command refuses a choice that cannot work before it loads anything.
"""

from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import yaml

from assets.environment import broker_url, dagster_home, executor_name, register_url
from billing.model.errors import RefusedError


class ExecutorName(StrEnum):
    """Values of $OVERAGE_EXECUTOR."""

    IN_PROCESS = "in_process"
    MULTIPROCESS = "multiprocess"
    CELERY = "celery"
    K8S = "k8s"


CLUSTER: Final = (ExecutorName.CELERY, ExecutorName.K8S)
_ON_POSTGRESQL: Final = ("dagster_postgres", "pipeline.postgres_storage")
_MODULES: Final = {ExecutorName.CELERY: "dagster_celery", ExecutorName.K8S: "dagster_k8s"}


def chosen_executor() -> ExecutorName:
    """The executor that $OVERAGE_EXECUTOR names: `multiprocess` when it is not set.

    Raises
    ------
    RefusedError
        When the name is unknown, or the executor lacks what it needs: the extra `cluster`, a broker, PostgreSQL.
    """
    name = executor_name()
    try:
        chosen = ExecutorName(name)
    except ValueError:
        raise RefusedError(f"OVERAGE_EXECUTOR: found {name!r}, expected one of {', '.join(ExecutorName)}") from None
    if chosen in CLUSTER:
        _refuse_missing(chosen)
    return chosen


def is_on_cluster() -> bool:
    """Whether steps are executed on other machines.

    Raises
    ------
    RefusedError
        As `chosen_executor`.
    """
    return chosen_executor() in CLUSTER


def _refuse_missing(chosen: ExecutorName) -> None:
    """Refuse an executor on other machines without what they all have to reach."""
    setting = f"OVERAGE_EXECUTOR={chosen}"
    if find_spec(_MODULES[chosen]) is None:
        raise RefusedError(
            f"{setting}: the package {_MODULES[chosen].replace('_', '-')} is not installed: expected the extra "
            '`cluster` (pip install "overage-billing[cluster]")'
        )
    if not (register_url() or "").startswith("postgresql"):
        raise RefusedError(
            f"{setting}: the register has to be on a PostgreSQL server, which every worker reaches and whose lock "
            "keeps runs apart: expected OVERAGE_REGISTER_URL=postgresql+psycopg://user@host/name"
        )
    folder = dagster_home()
    if folder is None or not _is_on_postgresql(folder):
        raise RefusedError(
            f"{setting}: Dagster's runs and events have to be on a PostgreSQL server, which every worker reaches: "
            f"expected DAGSTER_HOME to be a folder whose dagster.yaml has `storage: postgres` or is that of "
            f"docs/production (found {folder or 'no DAGSTER_HOME'})"
        )
    if chosen == ExecutorName.CELERY and broker_url() is None:
        raise RefusedError(
            f"{setting}: expected OVERAGE_BROKER_URL, the address of RabbitMQ, such as amqp://user:password@host:5672//"
        )


def _is_on_postgresql(folder: Path) -> bool:
    try:
        settings = yaml.safe_load((folder / "dagster.yaml").read_bytes())
    except (OSError, yaml.YAMLError):
        return False
    if not isinstance(settings, dict):
        return False
    storage, runs = settings.get("storage"), settings.get("run_storage")
    custom = storage.get("custom") if isinstance(storage, dict) else None
    modules = [str(found.get("module", "")) for found in (custom, runs) if isinstance(found, dict)]
    return (isinstance(storage, dict) and "postgres" in storage) or any(
        module.startswith(_ON_POSTGRESQL) for module in modules
    )
