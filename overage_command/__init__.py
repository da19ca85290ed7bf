"""The console script: its own packages come first, whatever else is called `pipeline` or `assets` on the path.

Processes that it starts (daemon, webserver, workers) inherit this by the environment.
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
    # no folder in which a command happens to be run comes before them
    os.environ["PYTHONSAFEPATH"] = "1"
    from pipeline.cli import main as overage

    overage()
