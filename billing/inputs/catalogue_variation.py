"""Catalogues that differ in one number or two: the grid of a what-if, `packages.starter.price.monthly=79..129/10`."""

import copy
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Final

import yaml

from billing.inputs.catalogue_file import changed_catalogue
from billing.model.catalogue import Catalogue
from billing.model.errors import RefusedError

MOST_POINTS: Final = 400
MOST_PATHS: Final = 2
_NUMBER: Final = r"\d+(?:\.\d+)?"
_VARIATION: Final = re.compile(rf"(?P<path>[^=\s]+)=(?P<first>{_NUMBER})\.\.(?P<last>{_NUMBER})/(?P<step>{_NUMBER})")
_EXAMPLE: Final = "packages.starter.price.monthly=79..129/10"


@dataclass(frozen=True)
class Variation:
    """A number of the catalogue and the values that it takes.

    Attributes
    ----------
    path
        Keys from the top; a package, add-on or coupon by its name. The number is set in every version in force.
    """

    path: tuple[str, ...]
    values: tuple[Decimal, ...]

    @classmethod
    def of(cls, text: str) -> "Variation":
        """The variation that a text such as `packages.starter.price.monthly=79..129/10` asks for: from, to, step.

        Raises
        ------
        RefusedError
            When it says something else, or nothing.
        """
        found = _VARIATION.fullmatch(text)
        if found is None:
            raise RefusedError(f"--vary: found {text!r}, expected a path, from, to and step, such as {_EXAMPLE}")
        first, last, step = (Decimal(found[name]) for name in ("first", "last", "step"))
        if step == 0 or last < first:
            raise RefusedError(
                f"--vary: found {text!r}, expected a step above 0 and an end that is not below its start"
            )
        count = int((last - first) / step) + 1
        if count > MOST_POINTS:
            raise RefusedError(f"--vary: {text} are {count:,} values, expected at most {MOST_POINTS}")
        return cls(tuple(found["path"].split(".")), tuple(first + step * number for number in range(count)))

    @property
    def name(self) -> str:
        """The path as it was written."""
        return ".".join(self.path)


@dataclass(frozen=True)
class Point:
    """One catalogue of a grid, and the values that it has."""

    values: tuple[Decimal, ...]
    catalogue: Catalogue


def grid(path: Path, variations: Sequence[Variation], first: date, last: date) -> Iterator[Point]:
    """The catalogues of a grid, in the order of its values.

    Parameters
    ----------
    path
        The catalogue that is varied.
    first, last
        The days of the months: versions in force between them are set.

    Raises
    ------
    RefusedError
        When there are too many, a path leads to no number, or a catalogue with a value is refused.
    """
    count = 1
    for variation in variations:
        count *= len(variation.values)
    if not 1 <= len(variations) <= MOST_PATHS or count > MOST_POINTS:
        raise RefusedError(
            f"--vary: found {len(variations)} paths with {count:,} points, expected one or two paths with at most "
            f"{MOST_POINTS} points"
        )
    for values in itertools.product(*(variation.values for variation in variations)):

        def change(root: yaml.MappingNode, values: tuple[Decimal, ...] = values) -> None:
            for variation, value in zip(variations, values, strict=True):
                for node in _numbers(root, variation.path, first, last):
                    node.tag, node.value = "tag:yaml.org,2002:str", f"{value:f}"

        yield Point(values, changed_catalogue(path, change))


def values_in_force(path: Path, variation: Variation, first: date, last: date) -> list[Decimal]:
    """The different values that the number has in the versions in force, sorted.

    Raises
    ------
    RefusedError
        When the path leads to no number.
    """
    found: set[Decimal] = set()

    def collect(root: yaml.MappingNode) -> None:
        found.update(Decimal(node.value) for node in _numbers(root, variation.path, first, last))

    changed_catalogue(path, collect)
    return sorted(found)


def _numbers(root: yaml.Node, path: Sequence[str], first: date, last: date) -> list[yaml.ScalarNode]:
    """The numbers that a path leads to, one in each version in force."""
    nodes = [root]
    for place, key in enumerate(path):
        walked = ".".join(path[:place]) or "the catalogue"
        nodes = [found for node in nodes for found in _step(node, key, walked, first, last)]
    where = ".".join(path)
    for node in nodes:
        if not isinstance(node, yaml.ScalarNode) or not re.fullmatch(_NUMBER, node.value):
            held = ", ".join(_names(node)) or repr(getattr(node, "value", ""))
            raise RefusedError(f"--vary: {where}: found {held}, expected a path to a number, such as {_EXAMPLE}")
    return [node for node in nodes if isinstance(node, yaml.ScalarNode)]


def _step(node: yaml.Node, key: str, walked: str, first: date, last: date) -> list[yaml.Node]:
    """What a key leads to: of something with versions, in each that is in force."""
    own = _get(node, key)
    if own is not None:
        return [own]
    versions = _get(node, "versions")
    inside = _in_force(versions, first, last) if isinstance(versions, yaml.SequenceNode) else []
    found = [each for version in inside if (each := _get(version, key)) is not None]
    if not found:
        held = [name for each in (inside or [node]) for name in _names(each)]
        known = ", ".join(dict.fromkeys(held)) or "nothing to choose from"
        raise RefusedError(f"--vary: {walked} has no {key}: expected one of {known}")
    return found


def _get(node: yaml.Node, key: str) -> yaml.Node | None:
    """What a key, or a name in a list, leads to: a copy in its place, as an alias may stand for it elsewhere."""
    if isinstance(node, yaml.MappingNode):
        for place, (name, value) in enumerate(node.value):
            if name.value == key:
                own = _own(value)
                node.value[place] = (name, own)
                return own
    if isinstance(node, yaml.SequenceNode):
        for place, item in enumerate(node.value):
            if _text(item, "name") == key:
                own = _own(item)
                node.value[place] = own
                return own
    return None


def _own(node: yaml.Node) -> yaml.Node:
    own = copy.copy(node)
    if not isinstance(node, yaml.ScalarNode):
        own.value = list(node.value)
    return own


def _names(node: yaml.Node) -> list[str]:
    if isinstance(node, yaml.MappingNode):
        return [str(name.value) for name, _ in node.value]
    if isinstance(node, yaml.SequenceNode):
        return [name for item in node.value if (name := _text(item, "name"))]
    return []


def _text(node: yaml.Node, key: str) -> str:
    members = node.value if isinstance(node, yaml.MappingNode) else []
    found = next((value for name, value in members if name.value == key), None)
    return str(found.value) if isinstance(found, yaml.ScalarNode) else ""


def _in_force(versions: yaml.SequenceNode, first: date, last: date) -> list[yaml.Node]:
    """The versions in force on any day between two; all where their dates cannot be read."""
    versions.value = [_own(node) for node in versions.value]
    try:
        dated = sorted(
            ((date.fromisoformat(_text(node, "effective_from")), node) for node in versions.value),
            key=lambda each: each[0],
        )
    except ValueError:
        return list(versions.value)
    ends = [*(since for since, _ in dated[1:]), date.max]
    return [node for (since, node), end in zip(dated, ends, strict=True) if since <= last and end > first]
