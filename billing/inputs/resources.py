"""Reader of the files that documents are drawn with: the seller's logo and translations (rule 40)."""

import hashlib
from pathlib import Path
from typing import Final

from billing.model.resources import Resources
from billing.model.seller import Seller

TRANSLATIONS: Final = "translations"


def read_resources(landing: Path, seller: Seller) -> Resources:
    """The seller's logo and `translations/<language>.po` in the landing folder, as far as they are there."""
    files: dict[str, bytes] = {}

    def kept(path: Path) -> str:
        content = path.read_bytes()
        name = hashlib.sha256(content).hexdigest()
        files[name] = content
        return name

    logo = kept(landing / seller.logo) if seller.logo else None
    found = sorted((landing / TRANSLATIONS).glob("*.po"))
    translations = {path.stem.replace("_", "-").lower(): kept(path) for path in found}
    return Resources(logo=logo, translations=translations, files=files)
