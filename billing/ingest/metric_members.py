"""Event members that the catalogue's metrics require: which must be present, and which must be numbers."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from billing.model.catalogue import Metric

FLAT_VALUE: Final = "value"
"""Name of the one value column of CSV and Parquet files, and of its text in parsed files."""

Content = Literal["dimension", "text", "number", "unsigned"]


@dataclass(frozen=True)
class Member:
    """A member of an event that a metric measures.

    Attributes
    ----------
    path
        From the event's root, such as ("data", "bytes").
    content
        "text" (any scalar: a `unique` metric counts distinct ones), "number" (gauges) or "unsigned" (counters);
        "dimension": any scalar that a tariff tells apart, which an event may lack.
    """

    path: tuple[str, ...]
    content: Content

    @property
    def column(self) -> str:
        """Name of the column of a parsed JSON file that holds its text."""
        return member_column(self.path)

    @property
    def is_required(self) -> bool:
        """Whether an event without it is rejected."""
        return self.content != "dimension"


EventTypes = Mapping[str, tuple[Member, ...]]
"""Event types of the catalogue with the members that their metrics measure."""


def member_column(path: tuple[str, ...]) -> str:
    """Name of the column of a parsed JSON file that holds the text at `path`."""
    return f"{FLAT_VALUE}:{'.'.join(path)}"


def event_types(metrics: Sequence[Metric]) -> dict[str, tuple[Member, ...]]:
    """Event types with the members that an event must carry, strictest requirement first, and those it may.

    Several metrics may measure one event type. Counting metrics require no member, dimensions are never required.
    """
    types: dict[str, dict[tuple[str, ...], Content]] = {}
    for metric in sorted(metrics, key=lambda metric: metric.name):
        members = types.setdefault(metric.event, {})
        for _, path in metric.by:
            members[path] = _stricter(members.get(path, "dimension"), "dimension")
        if metric.measure == "count" or metric.value is None:
            continue
        members[metric.value] = _stricter(members.get(metric.value, "text"), _content(metric))
    return {
        event: tuple(Member(path, content) for path, content in sorted(members.items()))
        for event, members in sorted(types.items())
    }


def measured_paths(types: EventTypes) -> list[tuple[str, ...]]:
    """All measured paths, sorted."""
    return sorted({member.path for members in types.values() for member in members})


def required_members(members: Sequence[Member]) -> list[Member]:
    """The members of an event type that its events must carry: the values that metrics measure."""
    return [member for member in members if member.is_required]


def event_types_digest(types: EventTypes, version: int) -> str:
    """A short hash of the event types and of the parser version."""
    return hashlib.sha256(json.dumps([version, _plain(types)], sort_keys=True).encode()).hexdigest()[:12]


def _plain(types: EventTypes) -> dict[str, list[list[object]]]:
    return {event: [[list(member.path), member.content] for member in members] for event, members in types.items()}


def event_types_text(types: EventTypes) -> str:
    """Event types serialized for the metadata of parsed files."""
    return json.dumps(_plain(types), sort_keys=True)


def event_types_of(text: str) -> dict[str, tuple[Member, ...]]:
    """Event types parsed from the text of `event_types_text`."""
    return {
        event: tuple(Member(tuple(path), content) for path, content in members)
        for event, members in json.loads(text).items()
    }


def read_column(path: tuple[str, ...], columns: Collection[str]) -> str | None:
    """Name of the column of a parsed file that holds the text at a path; None when there is none.

    If a flat file has no column named by the path, use its one value column: it holds the path of types that measure
    no other (`parsed_rows` rejects rows of other types).
    """
    own = member_column(path)
    if own in columns:
        return own
    return FLAT_VALUE if FLAT_VALUE in columns else None


def _content(metric: Metric) -> Content:
    if metric.measure == "unique":
        return "text"
    return "unsigned" if metric.kind == "counter" else "number"


def _stricter(one: Content, other: Content) -> Content:
    order: tuple[Content, ...] = ("dimension", "text", "number", "unsigned")
    return max(one, other, key=order.index)
