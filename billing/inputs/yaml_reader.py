"""Typed YAML reader: reports every problem with line, place, found and expected.

Plain numbers with a point stay text, so 99.10 never becomes a binary float.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from decimal import Decimal, localcontext
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl
import yaml
from polars.exceptions import ComputeError

from billing.model.errors import Problem
from billing.model.money import MAXIMUM_AMOUNT, minor_units

_DECIMAL = re.compile(r"-?\d+(\.\d+)?")
# Longest text that fits a line of a page, and any pattern.
LONGEST_TEXT = 2_000
Change = Callable[[yaml.MappingNode], None]
"""A change to the root of a document."""
_MISSING = yaml.ScalarNode("tag:yaml.org,2002:null", "")
_NULL = "tag:yaml.org,2002:null"


def decimals(value: Decimal) -> int:
    """Number of decimals of a number: 1 for 3.10, 0 for 3000."""
    _, digits, exponent = value.as_tuple()
    zeros = next((zeros for zeros, digit in enumerate(reversed(digits)) if digit != 0), len(digits))
    return max(0, -int(exponent) - zeros)


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name closest to a misspelt one."""
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.7)), None)


def read_yaml(file: str, content: bytes, problems: list[Problem], change: Change | None = None) -> "Place | None":
    """Parse a YAML document, make a change to it, and return its root; adds problems to `problems`."""
    try:
        node = yaml.compose(content, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problems.append(Problem(file, where, f"what YAML cannot read ({error.problem})", "a YAML document"))
        return None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problems.append(Problem(file, "", f"what YAML cannot read ({error})", "a YAML document in UTF-8"))
        return None
    except RecursionError:
        problems.append(Problem(file, "", "brackets within brackets without end", "a YAML document"))
        return None
    if not isinstance(node, yaml.MappingNode):
        problems.append(Problem(file, "", "no mapping", "a mapping of keys, as `overage init` writes it"))
        return None
    if change is not None:
        change(node)
    return Place(file, "", node, problems)


class Pricing:
    """The currency in which amounts are read, and what was found of currencies (rule 36).

    Attributes
    ----------
    currency, own
        The currency that is read, and that of the catalogue, in which plain amounts are.
    named
        The codes that amounts by currency name.
    lacking
        How many amounts are not in the currency that is read.
    """

    def __init__(self, currency: str, own: str) -> None:
        self.currency = currency
        self.own = own
        self.named: set[str] = set()
        self.lacking = 0


class Place:
    """A place in the document: reads its value, or reports a problem and returns a default."""

    def __init__(
        self,
        file: str,
        path: str,
        node: yaml.Node,
        problems: list[Problem],
        nearest: yaml.Node | None = None,
        pricing: Pricing | None = None,
    ) -> None:
        self._file = file
        self._path = path
        self._node = node
        self._problems = problems
        # Report a missing value at its mapping: it has no line of its own.
        self._nearest = nearest or node
        self._pricing = pricing

    def priced_in(self, pricing: Pricing) -> "Place":
        """The same place, whose amounts are read in a currency."""
        return Place(self._file, self._path, self._node, self._problems, self._nearest, pricing)

    def lacking(self) -> int:
        """How many amounts of the document, as far as it was read, are not in the currency that is read."""
        return self._pricing.lacking if self._pricing is not None else 0

    def problem(self, expected: str, found: str | None = None) -> None:
        """Report a problem at this place."""
        mark = self._nearest.start_mark
        line = f"line {mark.line + 1}, " if mark else ""
        self._problems.append(
            Problem(self._file, f"{line}{self._path or 'the document'}", found or self._found(), expected)
        )

    def keys(self, required: Sequence[str], optional: Sequence[str], what: str = "key") -> None:
        """Report missing, unknown and repeated keys.

        Treat an unknown key that resembles a missing one as a misspelling: report it once, and read it.
        """
        if self._missing() or self.is_null():
            entries: list[tuple[yaml.Node, yaml.Node]] = []
        elif isinstance(self._node, yaml.MappingNode):
            entries = self._node.value
        else:
            self.problem("a mapping of keys")
            return
        known = [*required, *optional]
        missing = [name for name in known if name not in {str(key.value) for key, _ in entries}]
        seen: set[str] = set()
        for key, _ in entries:
            name = str(key.value)
            if name in seen:
                self.at(name).problem(f"the {what} once", found=f"{name} twice")
            elif name not in known:
                self.at(name).problem(f"one of: {', '.join(known)}", found=f"the unknown {what} {name}")
                meant = nearest(name, missing)
                if meant is not None:
                    missing.remove(meant)
                    key.value = name = meant
            seen.add(name)
        for name in required:
            if name not in seen:
                self.problem(f"a {what} `{name}`", found="none")

    def reported(self) -> int:
        """Number of problems reported in the document so far."""
        return len(self._problems)

    def has(self, key: str) -> bool:
        """Whether the mapping has the key."""
        return not self.at(key)._missing()

    def at(self, key: str) -> "Place":
        """The place of a key; a missing key reads as null."""
        node = _MISSING
        if isinstance(self._node, yaml.MappingNode):
            node = next((value for name, value in self._node.value if name.value == key), _MISSING)
        nearest = self._nearest if node is _MISSING else node
        path = f"{self._path}.{key}" if self._path else key
        return Place(self._file, path, node, self._problems, nearest, self._pricing)

    def items(self) -> Iterator["Place"]:
        """The places of the items of a list."""
        if self._missing() or self.is_null():
            return
        if not isinstance(self._node, yaml.SequenceNode):
            self.problem("a list")
            return
        for index, node in enumerate(self._node.value):
            yield Place(self._file, f"{self._path}[{index}]", node, self._problems, pricing=self._pricing)

    def named(self) -> Iterator[tuple[str, "Place"]]:
        """The keys of a mapping with their places."""
        if isinstance(self._node, yaml.MappingNode):
            for key, _ in self._node.value:
                yield str(key.value), self.at(str(key.value))
        elif not self._missing() and not self.is_null():
            self.problem("a mapping of keys")

    def items_or_one(self) -> Iterator["Place"]:
        """As `items`; a single value is a list of one."""
        if isinstance(self._node, yaml.ScalarNode) and not self._missing():
            yield self
        else:
            yield from self.items()

    def has_value(self) -> bool:
        """Whether there is a value here, null or not."""
        return not self._missing()

    def is_null(self) -> bool:
        """Whether the value is null."""
        return bool(self._node.tag == _NULL)

    def is_text(self, text: str) -> bool:
        """Whether the value is exactly this text."""
        return isinstance(self._node, yaml.ScalarNode) and self._node.value == text

    def is_mistaken_for(self, text: str) -> bool:
        """Whether the value is a text that is wrong here, and deserves words of its own."""
        return self.is_text(text)

    def is_mapping(self) -> bool:
        """Whether the value is a mapping."""
        return isinstance(self._node, yaml.MappingNode)

    def is_empty_mapping(self) -> bool:
        """Whether the value is a mapping without keys."""
        return isinstance(self._node, yaml.MappingNode) and not self._node.value

    def text(self, default: str, *, empty: bool = False) -> str:
        """Read a text; with `empty`, a missing value is valid and reads as the default."""
        if (self._missing() or self.is_null()) and empty:
            return default
        value = self._scalar()
        if value is None or self.is_null() or not (value.strip() or empty):
            if not self._missing():
                self.problem("a text")
            return default
        if len(value) > LONGEST_TEXT:
            self.problem(f"a text of at most {LONGEST_TEXT:,} characters", found=f"{len(value):,} characters")
            return default
        return value

    def written(self, default: str) -> str:
        """Read a scalar as it is written, whatever YAML makes of it: null, no and 0 are texts."""
        value = self._scalar()
        if self._missing():
            return default
        if value is None or len(value) > LONGEST_TEXT:
            self.problem("a text")
            return default
        return value

    def choice(self, options: Sequence[str], default: str | None = None) -> str:
        """Read one of the options."""
        if self._missing() and default is not None:
            return default
        value = self._scalar()
        if value is None or value not in options or self.is_null():
            self.problem(f"one of: {', '.join(options)}", found="none" if self._missing() else None)
            # Read a misspelt option as the one meant, to avoid follow-up problems.
            return nearest(value or "", options) or default or (options[0] if options else "")
        return value

    def integer(self, default: int, least: int, most: int) -> int:
        """Read a whole number within bounds."""
        value = self._scalar()
        if self._missing():
            return default
        if value is None or not re.fullmatch(r"-?\d{1,18}", value) or not least <= int(value) <= most:
            self.problem(f"a whole number from {least} to {most}")
            return default
        return int(value)

    def boolean(self, *, default: bool) -> bool:
        """Read true or false."""
        if self._missing():
            return default
        if self._node.tag != "tag:yaml.org,2002:bool":
            self.problem("true or false")
            return default
        return str(self._node.value).lower() in ("true", "yes", "on")

    def date(self, default: date) -> date:
        """Read a date, YYYY-MM-DD."""
        value = self._scalar()
        if self._missing():
            return default
        try:
            # `fromisoformat` also accepts weeks (2026-W01-1), which have the same length.
            if value is None or not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
                raise ValueError
            return date.fromisoformat(value)
        except ValueError:
            self.problem("a date, YYYY-MM-DD")
            return default

    def decimal(self, default: Decimal) -> Decimal:
        """Read a plain decimal number, exactly as written."""
        value = self._scalar()
        if self._missing():
            return default
        if value is None or not _DECIMAL.fullmatch(value):
            self.problem('a plain decimal number such as "3.00"')
            return default
        return Decimal(value)

    def amount(self, default: Decimal) -> Decimal:
        """Read an amount of money, perhaps one of several by currency: not negative, below 10^14, at most 12 decimals.

        Where it is not in the currency that is read, the default is returned and counted (`lacking`). 0 is 0 in every
        currency.
        """
        pricing = self._pricing
        if pricing is None:
            return self._amount(default)
        if isinstance(self._node, yaml.MappingNode):
            return self._amount_by_currency(default, pricing)
        value = self._amount(default)
        if pricing.currency != pricing.own and value != 0 and not self._missing():
            pricing.lacking += 1
            return default
        return value

    def _amount_by_currency(self, default: Decimal, pricing: Pricing) -> Decimal:
        found: dict[str, Decimal] = {}
        for code, place in self.named():
            if minor_units(code) is None:
                place.problem("the ISO 4217 code of a currency with a minor unit, such as EUR", found=code)
            elif code in found:
                place.problem("the currency once", found=f"{code} twice")
            else:
                found[code] = place._amount(default)
        if self.is_empty_mapping():
            self.problem('an amount, or amounts by currency such as {USD: "99.00", EUR: "89.00"}')
        pricing.named.update(found)
        if pricing.currency not in found:
            pricing.lacking += 1
        return found.get(pricing.currency, default)

    def _amount(self, default: Decimal) -> Decimal:
        value = self.decimal(default)
        if not 0 <= value < MAXIMUM_AMOUNT or decimals(value) > 12:
            self.problem("an amount from 0 to below 10^14, of at most 12 decimals")
            return default
        return value

    def quantity(self, unit_size: Decimal, maximum: Decimal) -> Decimal:
        """Read a quantity in units, exact to 18 decimals of the unit and 9 of the base unit."""
        value = self.decimal(Decimal(0))
        with localcontext(prec=100):  # The default precision would round the product of two long numbers.
            base = value * unit_size
        if value < 0 or base >= maximum or decimals(value) > 18 or decimals(base) > 9:
            self.problem(
                "a quantity from 0, below 10^18 base units, of at most 9 decimals of the base unit and 18 of the unit"
            )
            return Decimal(0)
        return value

    def time_zone(self) -> str:
        """Read an IANA time zone name."""
        value = self.text("UTC")
        try:
            ZoneInfo(value)
            # Polars and zoneinfo must both know the name ("localtime" is unknown to one): both compute dates.
            pl.Series([0], dtype=pl.Datetime("ns", "UTC")).dt.convert_time_zone(value)
        except (ZoneInfoNotFoundError, ValueError, OSError, ComputeError):
            self.problem("the IANA name of a time zone, such as Europe/Berlin")
            return "UTC"
        return value

    def encoding(self) -> str:
        """Read the name of a text encoding."""
        value = self.text("utf-8")
        try:
            # Bytes-to-bytes codecs are not text encodings.
            if not isinstance(b"a".decode(value, errors="replace"), str):
                raise LookupError
        except (LookupError, ValueError):
            self.problem("the name of a text encoding, such as cp1252 or latin-1")
            return "utf-8"
        return value

    def country(self) -> str:
        """Read an ISO 3166-1 alpha-2 code."""
        value = self.text("US")
        if not re.fullmatch(r"[A-Z]{2}", value):
            self.problem("an ISO 3166-1 alpha-2 country code, such as US")
        return value

    def _scalar(self) -> str | None:
        return str(self._node.value) if isinstance(self._node, yaml.ScalarNode) else None

    def _missing(self) -> bool:
        return self._node is _MISSING

    def _found(self) -> str:
        if isinstance(self._node, yaml.MappingNode):
            return "a mapping"
        if isinstance(self._node, yaml.SequenceNode):
            return "a list"
        if self._missing():
            return "none"
        return "null" if self.is_null() else repr(str(self._node.value))
