"""Files that issued documents are drawn with, by their content: a page can be drawn again after years (rule 19)."""

from billing.model.resources import Resources
from billing.store.files import write_bytes
from billing.store.home import Home


def keep_resources(home: Home, resources: Resources) -> None:
    """Write the files that the home does not have."""
    for name, content in resources.files.items():
        path = home.resources / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, content)
