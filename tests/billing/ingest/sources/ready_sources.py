"""The ready-made sources of the starting home, taken out of their comments, and samples of what they read."""

import re
from pathlib import Path

from billing.inputs.catalogue_file import load_catalogue
from billing.model.catalogue import Catalogue
from billing.starter import starter_catalogue

SAMPLES = Path(__file__).parent / "ready"


def uncommented() -> str:
    """The starting catalogue with every ready-made source, and the metrics that they need."""
    text = starter_catalogue()
    before, marker, sources = text.partition("# sources:\n")
    metrics = re.findall(r"^  # (\w+): +\{event: ", before, re.MULTILINE)
    before = re.sub(r"^  # (\w+: +\{event: )", r"  \1", before, flags=re.MULTILINE)
    free = ", ".join(f"{name}: null" for name in metrics)
    before = before.replace("        allowances: {", f"        allowances: {{{free}, ")
    return before + re.sub(r"^# ?", "", marker + sources, flags=re.MULTILINE)


def ready_catalogue(folder: Path) -> Catalogue:
    """Load `uncommented`, which must be right."""
    path = folder / "catalogue.yaml"
    path.write_text(uncommented())
    return load_catalogue(path)
