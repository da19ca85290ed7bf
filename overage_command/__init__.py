"""Console script `overage`: puts its own packages first on the path, before others named `pipeline` or `assets`.

Child processes (daemon, webserver, workers) inherit this through the environment.
"""

import os
import sys
from pathlib import Path


def main() -> None:
    """Run the command line."""
    root = str(Path(__file__).resolve().parents[1])
    sys.path.insert(0, root)
    others = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([root, others] if others else [root])
    # Keep the current folder off the path.
    os.environ["PYTHONSAFEPATH"] = "1"
    from pipeline.cli import main as overage

    overage()
