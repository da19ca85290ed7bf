"""Settings of a home's Dagster instance; read and updated without importing Dagster."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Final

import yaml

from assets.environment import dagster_home
from billing.store.files import file_hash, write_bytes
from billing.store.home import Home

# Hashes of every dagster.yaml that a release wrote into homes, the current one last.
WRITTEN: Final = (
    "9bd30c71eabecf74cd8f602bb2447035b9d45bb2b25e757b74bf320e6c4febf4",
    "142d6c1d30484b9e8b2dcd0b69e1df34d653ede58f1fd2caf91e3843b27d7436",
    "fe6bb058ef2d1484b786c10dc59d3a617fb24c1daf4629a3a92f40f603e78bad",
    "1c83af1c400750be1919be0648846699f6f7e585d73cd95150692ce4a339ceb2",
)


def instance_folder(home: Home) -> Path:
    """Folder of the instance: $DAGSTER_HOME, or the home's own."""
    return dagster_home() or home.root.resolve() / ".dagster"


def bring_up_to_date(home: Home, say: Callable[[str], None]) -> None:
    """Update settings that an earlier version wrote, or report what to add to edited ones.

    Never touches an instance that the user has set.
    """
    path, ours = instance_folder(home) / "dagster.yaml", settings()
    if dagster_home() or not path.exists() or path.read_bytes() == ours:
        return
    if file_hash(path) in WRITTEN:
        write_bytes(path, ours)
        say(f"{path}: brought up to date: it was as an earlier version of this program wrote it")
        return
    # Without the launcher, a run that died with its machine blocks all others.
    try:
        theirs, wanted = (yaml.safe_load(content) for content in (path.read_bytes(), ours))
    except yaml.YAMLError:
        # Dagster refuses the file and says where it is wrong.
        return
    if not isinstance(theirs, dict) or "run_launcher" not in theirs:
        launcher = ", ".join(f"{name}: {value}" for name, value in wanted["run_launcher"].items())
        say(
            f"warning: {path}: found no run_launcher: add the line `run_launcher: {{{launcher}}}`, so that a run that "
            "goes down with its machine is noticed and begun again"
        )


def settings() -> bytes:
    """Contents of the bundled dagster.yaml: beside this module when installed, else at the top of the repository."""
    installed = files("pipeline").joinpath("dagster.yaml")
    return installed.read_bytes() if installed.is_file() else (Path(__file__).parents[1] / "dagster.yaml").read_bytes()
