"""The Dagster instance of a home: its runs and logs stay in the home, away from the program."""

import os
from importlib.resources import files
from pathlib import Path

from billing.home import Home, write_bytes


def use_instance_of(home: Home) -> Path:
    """Point $DAGSTER_HOME at the home's instance, made when it is not there; an instance set by the user stays.

    Returns
    -------
    Path
        The folder of the instance.
    """
    set_by_user = os.environ.get("DAGSTER_HOME")
    folder = Path(set_by_user) if set_by_user else home.root.resolve() / ".dagster"
    os.environ["DAGSTER_HOME"] = str(folder)
    settings = folder / "dagster.yaml"
    if not settings.exists():
        write_bytes(settings, _settings())
    return folder


def _settings() -> bytes:
    """The dagster.yaml that comes with the program: beside this module when installed, else at the top."""
    installed = files("pipeline").joinpath("dagster.yaml")
    return installed.read_bytes() if installed.is_file() else (Path(__file__).parents[1] / "dagster.yaml").read_bytes()
