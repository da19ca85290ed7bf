"""Reader of the catalogue's `numbering`: formats of the series of documents, and where they begin (rules 19 and 38)."""

from itertools import combinations
from typing import Final

from billing.inputs.yaml_reader import Place
from billing.model.numbering import USUAL, NumberFormat, Numbering, can_meet

_HIGHEST_FIRST: Final = 10**9


def read_numbering(place: Place) -> Numbering:
    """Read the formats; a series that is not named has the usual one."""
    place.keys(required=(), optional=(*USUAL, "first"))
    formats = {}
    for kind, usual in USUAL.items():
        formats[kind] = NumberFormat(usual)
        text = place.at(kind).text(usual, empty=True) if place.has(kind) else usual
        try:
            formats[kind] = NumberFormat(text)
        except ValueError as error:
            place.at(kind).problem(str(error))
    for one, other in combinations(formats, 2):
        if can_meet(formats[one], formats[other]):
            named = other if place.has(other) else one
            place.at(named).problem(
                f"a format whose numbers, as names of files, cannot be those of {one if named == other else other}",
                found=repr(formats[named].text),
            )
    first = place.at("first")
    first.keys(required=(), optional=tuple(USUAL))
    return Numbering(formats, {kind: first.at(kind).integer(1, 1, _HIGHEST_FIRST) for kind in USUAL if first.has(kind)})
