"""The environment variables that the program reads: all of them here, and nowhere else."""

import os
from collections.abc import Mapping
from pathlib import Path


def variables() -> Mapping[str, str]:
    """All of them, for those who read several: notices and the UI."""
    return os.environ


def home_folder() -> Path:
    """The billing home: $OVERAGE_HOME, else ./data."""
    return Path(os.environ.get("OVERAGE_HOME") or "data")


def use_home(home: Path) -> None:
    """Let this process and those it starts use a billing home."""
    os.environ["OVERAGE_HOME"] = str(home)


def register_url() -> str | None:
    """Where the register is: $OVERAGE_REGISTER_URL; None means in the home."""
    return os.environ.get("OVERAGE_REGISTER_URL") or None


def months_ahead() -> int | None:
    """How many months after the open one the calendars of the UI show: $OVERAGE_MONTHS_AHEAD; None means all."""
    asked = os.environ.get("OVERAGE_MONTHS_AHEAD", "")
    return int(asked) if asked.isdecimal() else None


def executor_name() -> str:
    """Where steps are carried out: $OVERAGE_EXECUTOR, else processes of this machine."""
    return os.environ.get("OVERAGE_EXECUTOR", "multiprocess")


def dagster_home() -> Path | None:
    """The folder of a Dagster instance that the user has chosen: $DAGSTER_HOME."""
    folder = os.environ.get("DAGSTER_HOME")
    return Path(folder) if folder else None


def use_dagster_home(folder: Path) -> None:
    """Let Dagster use the instance in a folder."""
    os.environ["DAGSTER_HOME"] = str(folder)


def set_default(name: str, value: str) -> None:
    """Set a variable for this process and those it starts, unless it is set."""
    os.environ.setdefault(name, value)
