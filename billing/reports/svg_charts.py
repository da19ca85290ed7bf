"""Small charts as SVG text: the same numbers give the same bytes, and no library is loaded to draw a bar."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from html import escape
from typing import Final

WIDTH: Final = 640
_BLUE, _ORANGE, _GREY, _INK, _PALE = "#3f5fbf", "#f0a030", "#66708a", "#22324a", "#e3e7ef"
_OF_LINES: Final = (_BLUE, _ORANGE, _GREY, "#2e8b57", "#a0409a", "#0f8a9d", "#b3261e")
MOST_LINES: Final = len(_OF_LINES)
_LABEL, _ROW = 150, 24


def bars(title: str, labels: Sequence[str], values: Sequence[Decimal]) -> str:
    """Horizontal bars, one under the other; what is below zero is drawn in orange."""
    highest = max((abs(value) for value in values), default=Decimal(0)) or Decimal(1)
    parts = []
    for position, (label, value) in enumerate(zip(labels, values, strict=True)):
        top = 34 + position * _ROW
        length = int(abs(value) * 360 // highest)
        colour = _ORANGE if value < 0 else _BLUE
        parts.append(
            f'<text x="{_LABEL - 8}" y="{top + 12}" text-anchor="end">{escape(_cut(label))}</text>'
            f'<rect x="{_LABEL}" y="{top}" width="{max(length, 1)}" height="16" rx="2" fill="{colour}"/>'
            f'<text x="{_LABEL + 8 + length}" y="{top + 12}">{value:,}</text>'
        )
    return _drawing(title, parts, 44 + _ROW * len(parts))


def columns(title: str, labels: Sequence[str], values: Sequence[int], marked: Sequence[int], mark: str) -> str:
    """Columns side by side, each with a marked part on top; every fifth label is written."""
    highest = max(values, default=0) or 1
    step = Decimal(WIDTH - 40) / max(len(values), 1)
    parts = []
    for position, (label, value, part) in enumerate(zip(labels, values, marked, strict=True)):
        left, width = f"{20 + step * position:.1f}", f"{step * Decimal('0.8'):.1f}"
        tall, late = value * 110 // highest, part * 110 // highest
        late = max(late, 2) if part else 0
        parts.append(
            f'<rect x="{left}" y="{150 - tall}" width="{width}" height="{tall}" fill="{_BLUE}"/>'
            f'<rect x="{left}" y="{150 - tall}" width="{width}" height="{late}" fill="{_ORANGE}"/>'
        )
        if position % 5 == 0:
            parts.append(f'<text x="{left}" y="166" fill="{_GREY}">{escape(label)}</text>')
    total, late_total = sum(values), sum(marked)
    parts.append(
        f'<text x="{WIDTH - 20}" y="18" text-anchor="end" fill="{_GREY}">{total:,} in all, <tspan fill="#b06a00" '
        f'font-weight="600">{late_total:,} {escape(mark)}</tspan></text>'
    )
    return _drawing(title, parts, 176)


def lines(title: str, labels: Sequence[str], series: Mapping[str, Sequence[Decimal]]) -> str:
    """At most MOST_LINES lines over points side by side; the axis runs from the lowest to the highest value."""
    values = [value for each in series.values() for value in each]
    lowest, highest = min(values), max(values)
    span = highest - lowest or Decimal(1)
    step = Decimal(WIDTH - 240) / max(len(labels) - 1, 1)

    def place(position: int, value: Decimal) -> str:
        return f"{90 + step * position:.1f},{Decimal(190) - (value - lowest) * 140 / span:.1f}"

    parts = [
        f'<line x1="90" y1="{y}" x2="{WIDTH - 150}" y2="{y}" stroke="{_PALE}"/>'
        f'<text x="82" y="{y + 4}" text-anchor="end" fill="{_GREY}">{value:,}</text>'
        for y, value in ((190, lowest), (50, highest))
    ]
    shown = max(len(labels) // 8, 1)
    parts += [
        f'<text x="{90 + step * position:.1f}" y="210" text-anchor="middle" fill="{_GREY}">{escape(_cut(label))}</text>'
        for position, label in enumerate(labels)
        if position % shown == 0
    ]
    last = len(labels) - 1
    ends: list[Decimal] = []
    for (name, points), colour in zip(series.items(), _OF_LINES, strict=False):
        path = " ".join(place(position, value) for position, value in enumerate(points))
        end = Decimal(place(last, points[-1]).partition(",")[2])
        # Names of lines that end side by side stand under each other.
        while any(abs(end - other) < 14 for other in ends):
            end += 14
        ends.append(end)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>'
            f'<text x="{WIDTH - 142}" y="{end + 4}" fill="{colour}" font-weight="600">{escape(_cut(name))}</text>'
        )
    return _drawing(title, parts, max(224, int(max(ends)) + 14))


def flows(title: str, moves: Mapping[tuple[str, str], int], order: Sequence[str]) -> str:
    """Bands from what was, on the left, to what is, on the right, as broad as many moved; packages in their order."""
    sources = [name for name in order if any(one == name for one, _ in moves)]
    targets = [name for name in order if any(other == name for _, other in moves)]
    broadest = max(moves.values(), default=0) or 1

    def place(names: Sequence[str], name: str) -> int:
        return 52 + names.index(name) * 38

    parts = []
    for (source, target), count in sorted(moves.items(), key=lambda each: (order.index(each[0][0]), each[0][1])):
        start, end = place(sources, source), place(targets, target)
        thick = max(count * 22 // broadest, 2)
        parts.append(
            f'<path d="M{_LABEL},{start} C320,{start} 320,{end} 490,{end}" fill="none" stroke="{_BLUE}" '
            f'stroke-opacity="0.45" stroke-width="{thick}"/>'
            f'<text x="320" y="{(start + end) // 2 + 4}" text-anchor="middle" font-weight="600">{count:,}</text>'
        )
    parts += [
        f'<text x="{_LABEL - 10}" y="{place(sources, name) + 4}" text-anchor="end">{escape(_cut(name))}</text>'
        for name in sources
    ]
    parts += [f'<text x="500" y="{place(targets, name) + 4}">{escape(_cut(name))}</text>' for name in targets]
    return _drawing(title, parts, 40 + 38 * max(len(sources), len(targets), 1))


def _cut(label: str) -> str:
    return label if len(label) <= 22 else f"{label[:21]}…"


def _drawing(title: str, parts: Sequence[str], height: int) -> str:
    # Own background: pages may be dark.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="Inter, sans-serif" font-size="12" fill="{_INK}"><rect width="{WIDTH}" height="{height}" rx="6" '
        f'fill="#ffffff"/><text x="12" y="18" font-weight="600">{escape(title)}</text>{"".join(parts)}</svg>'
    )


def days_path(values: Sequence[Decimal]) -> str:
    """The path of bars side by side, ten wide each and at most 100 high, for a drawing of any colour.

    What is above zero is at least 2 high; days without have no bar.
    """
    highest = max(values, default=Decimal(0)) or Decimal(1)
    bars_of_days = []
    for position, value in enumerate(values):
        if value > 0:
            tall = max(int(value * 100 // highest), 2)
            bars_of_days.append(f"M{10 * position + 1} 100v-{tall}h8v{tall}z")
    return "".join(bars_of_days)
