"""Paths that lead on inside of text that is JSON, or by name into a list of names and values.

`Message.mail.messageId` reads the text `Message` as an object; `attributes["customer.id"].stringValue` reads the list
`attributes` of `{"key": ..., "value": ...}` as one. Where that is so is learned from a few records; a record that
differs fails the batch and is decoded alone, with the same result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from billing.ingest.formats.json_values import PAIRS, Json, opened, pair_members
from billing.model.json_paths import Path


@dataclass(frozen=True)
class Ways:
    """Where paths lead on, by the path up to there: inside of texts, and into lists by the members of their items."""

    texts: frozenset[Path] = frozenset()
    pairs: Mapping[Path, tuple[str, str]] = field(default_factory=dict)

    def beside(self, other: "Ways") -> "Ways":
        """These and those of another record; of two for one place, these."""
        places = self.texts.union(self.pairs)
        return Ways(
            self.texts | (other.texts - places),
            {**{path: members for path, members in other.pairs.items() if path not in places}, **self.pairs},
        )

    def divided(self, path: Path) -> tuple[Path, Path]:
        """A path up to a text, and the rest of it inside; the whole path and nothing where it meets no text."""
        place = next((place for place in range(1, len(path)) if path[:place] in self.texts), len(path))
        return path[:place], path[place:]

    def decoded(self, path: Path) -> Path:
        """The path at which the values of a path are decoded."""
        upto, _ = self.divided(path)
        steps: list[str | int] = []
        for place, step in enumerate(upto):
            steps += [0, self.pairs[path[:place]][1]] if path[:place] in self.pairs else [step]
        return tuple(steps)

    def names(self, paths: Sequence[Path]) -> list[Path]:
        """The decoded paths of the names in lists; of all that count as names, so that none is taken for another."""
        lists = {self.decoded(path): members for path, members in self._lists(paths)}
        return [(*path, 0, name) for path, members in lists.items() for name in _rivals(members)]

    def value(self, path: Path) -> pl.Expr:
        """The value of a path, or the text that holds it, in the decoded column `object`."""
        upto, _ = self.divided(path)
        return self._at(upto)

    def hold(self, paths: Sequence[Path]) -> pl.Expr:
        """Whether every item of the lists in a record has a name where it was learned, and nowhere before."""
        checks = [
            self._at(path)
            .list.eval(
                pl.element().struct.field(members[0]).is_not_null()
                & pl.all_horizontal(
                    pl.lit(True), *(pl.element().struct.field(name).is_null() for name in _rivals(members)[:-1])
                )
            )
            .list.all()
            .fill_null(value=True)
            for path, members in self._lists(paths)
        ]
        return pl.all_horizontal(pl.lit(True), *checks)

    def _lists(self, paths: Sequence[Path]) -> list[tuple[Path, tuple[str, str]]]:
        upto = [self.divided(path)[0] for path in paths]
        return [
            (path, members)
            for path, members in self.pairs.items()
            if any(len(other) > len(path) and other[: len(path)] == path for other in upto)
        ]

    def _at(self, path: Path) -> pl.Expr:
        found = pl.col("object")
        for place, step in enumerate(path):
            if path[:place] in self.pairs:
                name, value = self.pairs[path[:place]]
                is_wanted = pl.element().struct.field(name) == str(step)
                items = found.list.eval(pl.element().filter(is_wanted).struct.field(value))
                found = items.list.get(0, null_on_oob=True)
            elif isinstance(step, int):
                found = found.list.get(step, null_on_oob=True)
            else:
                found = found.struct.field(step)
        return found


def ways_of(event: Json, paths: Sequence[Path]) -> Ways:
    """Where the paths lead on in a decoded record."""
    texts: set[Path] = set()
    pairs: dict[Path, tuple[str, str]] = {}
    for path in paths:
        value = event
        for place, step in enumerate(path):
            if isinstance(step, int):
                value = value[step] if isinstance(value, list) and step < len(value) else None
                continue
            if isinstance(value, str) and opened(value) is not None:
                texts.add(path[:place])
                break
            if isinstance(value, list) and value:
                members = pair_members(value)
                if members is not None:
                    pairs[path[:place]] = members
            value = opened(value)
            value = value.get(step) if isinstance(value, dict) else None
    return Ways(frozenset(texts), pairs)


def _rivals(members: tuple[str, str]) -> list[str]:
    """The names that count before these members, and theirs."""
    return [name for name, _ in PAIRS[: PAIRS.index(members) + 1]]
