"""JSON Schema of catalogue.yaml for editors, made from the keys that its reader asks for.

The reader runs on a document in which every key is there, and notes what it asks for at each place. It runs several
times, with other answers to every choice, so that all its branches are seen.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final

import yaml

from billing.inputs.catalogue_file import catalogue_at
from billing.inputs.yaml_reader import LONGEST_TEXT, Place, Pricing

_RUNS: Final = 256
_NAME: Final = "name"
_TEXT: Final[dict[str, Any]] = {"type": ["string", "number", "boolean"], "maxLength": LONGEST_TEXT}
_OPTIONAL_TEXT: Final[dict[str, Any]] = {"type": [*_TEXT["type"], "null"], "maxLength": LONGEST_TEXT}
_DECIMAL: Final = {"type": ["string", "number"], "pattern": r"^-?\d+(\.\d+)?$"}
_BY_CURRENCY: Final[dict[str, Any]] = {
    "type": "object",
    "propertyNames": {"pattern": "^[A-Z]{3}$"},
    "additionalProperties": _DECIMAL,
    "minProperties": 1,
}
_DATE: Final = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d$"}
_SCALAR: Final = {"type": ["string", "number", "boolean", "null"]}


def catalogue_schema() -> str:
    """The schema as JSON, the same for the same reader."""
    root = _Node()
    for run in range(_RUNS):
        _explore(root, run)
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "catalogue.yaml of Overage",
        **root.schema(),
    }
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def _explore(root: "_Node", run: int) -> None:
    try:
        catalogue_at(_Recorder(root, run), "")
    except (ValueError, IndexError, KeyError, StopIteration) as error:
        # Answers that no document gives together may end in the reader's own checks; what was asked is noted.
        root.ended.append(type(error).__name__)


@dataclass
class _Node:
    """What the reader asks for at a place.

    Attributes
    ----------
    kinds
        Schemas of scalars that it reads here.
    known
        By run: the keys that it knows here, and those that it requires.
    ended
        Runs that ended early, of the root.
    """

    kinds: list[dict[str, Any]] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    known: list[tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=list)
    members: dict[str, "_Node"] = field(default_factory=dict)
    others: "_Node | None" = None
    item: "_Node | None" = None
    may_be_one: bool = False
    is_open: bool = False
    may_be_null: bool = False
    ended: list[str] = field(default_factory=list)

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the place."""
        found = list(self.kinds)
        if self.options:
            found.append({"enum": sorted(self.options)})
        if self.item is not None:
            item = self.item.schema()
            found.append({"type": ["array", "null"], "items": item})
            found += [item] if self.may_be_one else []
        if self.known or self.others is not None:
            found.append(self._mapping())
        if self.may_be_null:
            found.append({"type": "null"})
        if not found:
            return {}
        return found[0] if len(found) == 1 else {"anyOf": found}

    def _mapping(self) -> dict[str, Any]:
        names = sorted({name for known, _ in self.known for name in known} or set(self.members))
        required = set.intersection(*(set(required) for _, required in self.known)) if self.known else set()
        members = {name: self.members[name].schema() if name in self.members else {} for name in names}
        # A key without anything below it is read as an empty mapping.
        schema: dict[str, Any] = {"type": "object" if required else ["object", "null"], "properties": members}
        takes_others = self.others is not None and (self.is_open or not self.known)
        schema["additionalProperties"] = self.others.schema() if self.others is not None and takes_others else False
        return schema | ({"required": sorted(required)} if required else {})


class _Recorder(Place):
    """A place at which everything is there; notes what is asked, and gives the answers of a run."""

    def __init__(self, node: _Node, run: int, depth: int = 0) -> None:
        super().__init__("", "", yaml.ScalarNode("tag:yaml.org,2002:str", ""), [])
        self._noted = node
        self._run = run
        self._depth = depth

    def problem(self, expected: str, found: str | None = None) -> None:
        """Nothing is wrong here."""

    def keys(self, required: Sequence[str], optional: Sequence[str], what: str = "key") -> None:
        """Note the keys; names that people make up are no keys."""
        if what in ("key", "format"):
            asked = ((*required, *optional), tuple(required))
            if asked not in self._noted.known:
                self._noted.known.append(asked)
        else:
            self._noted.is_open = True

    def reported(self) -> int:
        """No problems."""
        return 0

    def has(self, key: str) -> bool:
        """Half of the runs have it, for each key and depth another half: what is read depends on what is there."""
        return bool(blake2b(f"{self._run} {self._depth} {key}".encode(), digest_size=1).digest()[0] & 1)

    def has_value(self) -> bool:
        """Whether the run has a value here."""
        return True

    def at(self, key: str) -> "_Recorder":
        """The place of a key."""
        if self._noted.others is not None and key.startswith(_NAME):
            return _Recorder(self._noted.others, self._run, self._depth + 1)
        return _Recorder(self._noted.members.setdefault(key, _Node()), self._run, self._depth + 1)

    def items(self) -> Iterator["_Recorder"]:
        """A list of one."""
        self._noted.item = self._noted.item or _Node()
        yield _Recorder(self._noted.item, self._run, self._depth + 1)

    def items_or_one(self) -> Iterator["_Recorder"]:
        """A list of one, or one value."""
        self._noted.may_be_one = True
        yield from self.items()

    def named(self) -> Iterator[tuple[str, "_Recorder"]]:
        """One entry under a name that people make up."""
        self._noted.others = self._noted.others or _Node()
        yield _NAME, _Recorder(self._noted.others, self._run, self._depth + 1)

    def is_null(self) -> bool:
        """Note that it may be null."""
        self._noted.may_be_null = True
        return False

    def is_text(self, text: str) -> bool:
        """Note that it may be this text."""
        if text not in self._noted.options:
            self._noted.options.append(text)
        return False

    def is_mistaken_for(self, text: str) -> bool:
        """Never."""
        return False

    def is_mapping(self) -> bool:
        """Neighbouring depths have mappings in other runs."""
        return not self._run >> self._depth % 3 & 1

    def is_empty_mapping(self) -> bool:
        """Never."""
        return False

    def _note(self, kind: dict[str, Any]) -> None:
        if kind not in self._noted.kinds:
            self._noted.kinds.append(kind)

    def text(self, default: str, *, empty: bool = False) -> str:
        """Note a text."""
        self._note(_OPTIONAL_TEXT if empty else _TEXT)
        return default or _NAME

    def written(self, default: str) -> str:
        """Note any scalar."""
        self._note(_SCALAR)
        return default

    def choice(self, options: Sequence[str], default: str | None = None) -> str:
        """Note the options; each run takes another."""
        # Names that people make up are no options of a schema.
        if _NAME in options:
            self._note(_TEXT)
        else:
            # Those that name a metric or an add-on after a point take any name.
            named = [option.removesuffix(_NAME) for option in options if option.endswith(f".{_NAME}")]
            for prefix in named:
                self._note({"type": "string", "pattern": f"^{re.escape(prefix)}."})
            known = [option for option in options if option.removesuffix(_NAME) not in named]
            self._noted.options += [option for option in known if option not in self._noted.options]
        return options[(self._run >> 4) % len(options)] if options else ""

    def integer(self, default: int, least: int, most: int) -> int:
        """Note a whole number within bounds."""
        self._note({"type": ["integer", "string"], "pattern": r"^-?\d+$", "minimum": least, "maximum": most})
        return default

    def boolean(self, *, default: bool) -> bool:
        """Note true or false."""
        self._note({"type": "boolean"})
        return default

    def date(self, default: date) -> date:
        """Note a date."""
        self._note(_DATE)
        return default

    def decimal(self, default: Decimal) -> Decimal:
        """Note a decimal."""
        self._note(_DECIMAL)
        return default

    def amount(self, default: Decimal) -> Decimal:
        """Note an amount, or amounts by currency."""
        self._note(_BY_CURRENCY)
        return self.decimal(default)

    def priced_in(self, pricing: Pricing) -> "_Recorder":
        """No currency: amounts are noted."""
        return self

    def quantity(self, unit_size: Decimal, maximum: Decimal) -> Decimal:
        """Note a quantity."""
        return self.decimal(Decimal(1))

    def time_zone(self) -> str:
        """Note a zone."""
        return self.text("UTC")

    def encoding(self) -> str:
        """Note an encoding."""
        return self.text("utf-8")

    def country(self) -> str:
        """Note a country."""
        self._note({"type": "string", "pattern": "^[A-Z]{2}$"})
        return "US"
