"""Values of JSON records, decoded exactly: numbers as text, the first of repeated members."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from billing.model.json_paths import Path

_LONGEST_PLAIN: Final = 60
PAIRS: Final = (("key", "value"), ("name", "value"), ("Key", "Value"), ("Name", "Value"))
"""Members of the objects in a list of names and values, such as the attributes of OpenTelemetry."""

Json = Mapping[str, "Json"] | Sequence["Json"] | str | bool | None


class JsonDecimal(str):
    """A JSON number with a point, as a plain decimal: no text in the file."""

    __slots__ = ()


def decode_line(line: str) -> Mapping[str, Json] | str:
    """Decode one line to an object with numbers as text; a fault description when it is no JSON object."""
    try:
        line.encode()
        found = json.loads(
            line,
            object_pairs_hook=_first_of_each,
            parse_float=_plain_decimal,
            parse_int=_plain_integer,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as error:
        return f"no JSON ({error.msg} at character {error.pos + 1})"
    except RecursionError:
        return "JSON that is nested too deeply"
    except ValueError as error:
        return f"no JSON ({error})"
    return found if isinstance(found, dict) else "JSON that is no object"


def _first_of_each(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    return dict(reversed(pairs))


def _plain_integer(text: str) -> str:
    return "0" if text == "-0" else text


def _plain_decimal(text: str) -> str:
    """A JSON number with a point or exponent as a plain decimal; unchanged when the result would be very long."""
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) > _LONGEST_PLAIN or len(exponent) > 4 or int(exponent or "0") > _LONGEST_PLAIN:
        return JsonDecimal(text)
    plain = f"{Decimal(text):f}"
    return JsonDecimal(plain.rstrip("0").rstrip(".") if "." in plain else plain)


def _refuse_constant(text: str) -> str:
    raise ValueError(f"{text} is no JSON")


def scalar(event: Json, path: Path, *, looks_inside: bool = False) -> str | None:
    """The text at a path of a record; None where there is none.

    Parameters
    ----------
    looks_inside
        Whether a path leads on inside of text that is a JSON object, and by name into a list of names and values.
    """
    for step in path:
        if isinstance(step, int):
            event = event[step] if isinstance(event, list) and step < len(event) else None
        else:
            event = opened(event) if looks_inside else event
            event = event.get(step) if isinstance(event, dict) else None
    return _text(event)


def opened(value: Json) -> Json:
    """A text that is a JSON object, or a list of names and values, as an object; any other value as it is."""
    if isinstance(value, str):
        return inner_object(value)
    if isinstance(value, list):
        members = pair_members(value)
        if members is not None:
            name, member = members
            found: dict[str, Json] = {}
            for item in value:
                # The first of repeated names counts.
                found.setdefault(str(_text(item[name])), item.get(member))
            return found
    return value


def inner_object(text: str) -> Json:
    """The JSON object that a text holds; None for any other text."""
    text = text.strip(" \t\r\n\ufeff").replace("\n", " ")
    decoded = decode_line(text) if text.startswith("{") else ""
    return None if isinstance(decoded, str) else decoded


def pair_members(items: Sequence[Json]) -> tuple[str, str] | None:
    """The first of PAIRS of which every item of a list has a name."""
    for name, value in PAIRS:
        if all(isinstance(item, dict) and _text(item.get(name)) is not None for item in items):
            return name, value
    return None


def _text(value: Json) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) and _is_text(value) else None


def _is_text(text: str) -> bool:
    """Whether a text has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
