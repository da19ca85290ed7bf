"""Reader of titles: a text, or texts by language."""

import re
from collections.abc import Mapping

from billing.inputs.yaml_reader import Place


def read_titles(place: Place, usual: str) -> tuple[str, Mapping[str, str]]:
    """A title, and titles by language where it is a mapping: the English one, else the first, stands for the others."""
    if not place.is_mapping():
        return place.text("", empty=True) or usual, {}
    titles = {language.replace("_", "-").lower(): each.text("") for language, each in place.named()}
    for language, each in place.named():
        if not re.fullmatch("[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*", language):
            each.problem("a title by the tag of a language (BCP 47), such as de", found=repr(language))
    return titles.get("en") or next(iter(titles.values()), usual), titles
