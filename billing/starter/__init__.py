"""The starting home: a commented catalogue and a few example rows, to be edited into one's own business."""

import shutil
from pathlib import Path
from typing import Final

from billing.model.errors import RefusedError

STARTER_HOME: Final = Path(__file__).parent / "home"
SCRATCH_LANDING: Final = ".writing-landing"


class StarterError(RefusedError):
    """There is already a landing area where a new one was to be written."""


def starter_catalogue() -> str:
    """Return the text of the starting catalogue: starter to platinum, illustrative prices, every policy commented."""
    return (STARTER_HOME / "landing" / "catalogue.yaml").read_text(encoding="utf-8")


CATALOGUE_SCHEMA: Final = ".catalogue.schema.json"
"""Name of the catalogue's JSON Schema beside it: editors find it by the first line of the catalogue."""


def catalogue_schema_file() -> Path:
    """Return the shipped JSON Schema of catalogue.yaml, which `billing.inputs.catalogue_schema` makes."""
    return STARTER_HOME / "landing" / CATALOGUE_SCHEMA


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
    source = STARTER_HOME / "landing"
    landing, scratch = directory / "landing", directory / SCRATCH_LANDING
    shutil.rmtree(scratch, ignore_errors=True)
    names = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    try:
        for name in names:
            # Contents only: an installed package may be read-only, and what is edited must not be.
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).write_bytes((source / name).read_bytes())
        written = [landing / name for name in names]
        readme = directory / "README.md"
        if not readme.exists():
            (scratch / "README.md").write_bytes((STARTER_HOME / "README.md").read_bytes())
            (scratch / "README.md").rename(readme)
            written.append(readme)
        # last: where there is a landing area, everything else is there
        scratch.rename(landing)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return sorted(written)
