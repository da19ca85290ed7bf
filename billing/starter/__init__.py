"""The starting home: a commented catalogue and a few example rows, to be edited into one's own business."""

import shutil
from pathlib import Path
from typing import Final

from billing.errors import RefusedError

STARTER_HOME: Final = Path(__file__).parent / "home"
SCRATCH_PREFIX: Final = ".writing-"


class StarterError(RefusedError):
    """There is already a landing area where a new one was to be written."""


def starter_catalogue() -> str:
    """Return the text of the starting catalogue: packages starter to platinum, illustrative prices, every policy commented."""
    return (STARTER_HOME / "landing" / "catalogue.yaml").read_text(encoding="utf-8")


def refuse_existing_landing(directory: Path) -> None:
    """Raise when a landing area stands in `directory`, since a new one would overwrite or mix with a real business.

    Raises
    ------
    StarterError
        `directory` is a file, or holds a `landing` entry of any kind.
    """
    if directory.exists() and not directory.is_dir():
        raise StarterError(f"{directory} is a file: name a folder for the home")
    landing = directory / "landing"
    if landing.exists() or landing.is_symlink():
        raise StarterError(f"{landing} is already there and is left untouched: name another folder, or move it away")


def write_starter_home(directory: Path) -> list[Path]:
    """Write the starting home into `directory`, which is made when missing; other files there are left alone.

    The landing area is written under a scratch name and put in place at once, so there is never half of it.

    Returns
    -------
    list of Path
        The files written, sorted: the landing area's, and `README.md` unless one was there.

    Raises
    ------
    StarterError
        `directory` already has a landing area, or is a file.
    OSError
        The folder cannot be written; nothing of the landing area remains.
    """
    refuse_existing_landing(directory)
    directory.mkdir(parents=True, exist_ok=True)
    landing = directory / "landing"
    scratch = directory / f"{SCRATCH_PREFIX}landing"
    try:
        # An installed package may be read-only: copy contents, not permissions.
        shutil.copytree(STARTER_HOME / "landing", scratch, copy_function=shutil.copyfile)
        scratch.rename(landing)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    written = [path for path in landing.rglob("*") if path.is_file()]
    readme = directory / "README.md"
    if not readme.exists():
        shutil.copyfile(STARTER_HOME / "README.md", readme)
        written.append(readme)
    return sorted(written)
