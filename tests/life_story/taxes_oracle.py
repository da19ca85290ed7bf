"""The second opinion about taxes of what is given back (rule 24): by the document that billed it, to the cent."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal

from tests.life_story.offers_oracle import lowered_by
from tests.life_story.oracle_facts import Document, Key, Line

Tax = tuple[str, str | None, Decimal, Decimal, Decimal, str]
"""name, region, rate, taxable, amount, reason."""
Identity = tuple[str, str | None, Decimal, str]
Rounded = Callable[[Decimal, Decimal], Decimal]


def by_billing_document(
    moved: Mapping[Key, Decimal], documents: Sequence[Document]
) -> Iterator[tuple[Key, Decimal, Document | None]]:
    """Differences by the document that billed them: the last billed is given back first.

    Parameters
    ----------
    documents
        In the order in which they were issued, those of this run last; a line of them may give back another's.
    """
    lines: dict[Key, list[tuple[Document, Line]]] = defaultdict(list)
    place = {id(document): number for number, document in enumerate(documents)}
    issued = sorted(documents, key=lambda each: (each.issued_on, place[id(each)]))
    for settles in (False, True):
        for document in issued:
            for line in document.lines:
                is_settled = line.kind in ("prior_cycle", "adjustment", "refund")
                if line.due_kind != "refund" and is_settled == settles:
                    lines[line.key].append((line.gives_back or document.corrects or document, line))
    for key, amount in moved.items():
        if key[1] == "coupon":
            yield key, amount, _of_coupon(key, amount, moved, lines)
        elif amount > 0:
            yield key, amount, None
        else:
            left: dict[int, Decimal] = defaultdict(Decimal)
            billed: dict[int, Document] = {}
            for document, line in lines[key]:
                left[id(document)] += line.amount
                billed[id(document)] = document
            rest = -amount
            latest = sorted(billed.values(), key=lambda each: (each.issued_on, place.get(id(each), -1)), reverse=True)
            for document in latest:
                part = min(rest, left[id(document)])
                if part > 0:
                    yield key, -part, document
                    rest -= part
            if rest:
                yield key, -rest, None


def _of_coupon(
    key: Key, amount: Decimal, moved: Mapping[Key, Decimal], lines: Mapping[Key, Sequence[tuple[Document, Line]]]
) -> Document | None:
    """What a coupon takes off goes with the line that it lowers."""
    if amount > 0:
        return lines[key][0][0] if lines.get(key) else None
    lowered = lowered_by(key)
    if moved.get(lowered, Decimal(0)) > 0:
        return None
    return lines[lowered][0][0] if lines.get(lowered) else None


class Taxes:
    """What is left of the taxes of each document."""

    def __init__(self) -> None:
        self.left: dict[int, dict[Identity, list[Decimal]]] = defaultdict(dict)

    def of(self, document: Document, own: Sequence[Tax], rounded: Rounded) -> list[Tax]:
        """The taxes of a document that bills and gives back: the same tax stands once, on the net of both.

        Parameters
        ----------
        own
            The taxes of what it bills, at the rates of its day.
        """
        back: dict[int, Decimal] = defaultdict(Decimal)
        billed: dict[int, Document] = {}
        for line in document.lines:
            if line.gives_back is not None:
                back[id(line.gives_back)] += line.amount
                billed[id(line.gives_back)] = line.gives_back
        if all(line.gives_back is not None for line in document.lines):
            own = []
        gives_back = any(self.left[which] for which in back)
        if gives_back and any(not tax[3] for tax in own):
            own = []
        rows = {_identity(tax): tax for tax in own}
        nets = {identity: tax[3] for identity, tax in rows.items()}
        together: dict[Identity, list[tuple[int, Decimal]]] = defaultdict(list)
        found: list[Tax] = []
        for which in sorted(billed, key=lambda each: billed[each].number):
            for identity, left in self.left[which].items():
                if identity in rows:
                    together[identity].append((which, back[which]))
                    nets[identity] += back[which]
                    continue
                amount = self._given_back(left, identity, back[which], rounded)
                name, region, rate, reason = identity
                found.append((name, region, rate, back[which], amount, reason))
        for identity, (name, region, rate, _, _, reason) in rows.items():
            charged = reason == "charged"
            net = nets[identity]
            whole = rounded(rate, net) if charged else Decimal(0)
            found.append((name, region, rate, net, whole, reason))
            before = net - sum((part for _, part in together[identity]), Decimal(0))
            mine = [before, whole]
            for which, part in together[identity]:
                change = rounded(rate, before + part) - rounded(rate, before) if charged else Decimal(0)
                before += part
                left = self.left[which][identity]
                left[0], left[1] = left[0] + part, left[1] + change
                mine[1] -= change
            self.left[id(document)][identity] = mine
        return found

    def of_note(self, note: Document, rounded: Rounded) -> list[Tax]:
        """The taxes of a note: those of the document that it corrects."""
        assert note.corrects is not None
        return [
            (
                name,
                region,
                rate,
                note.net,
                self._given_back(left, (name, region, rate, reason), note.net, rounded),
                reason,
            )
            for (name, region, rate, reason), left in self.left[id(note.corrects)].items()
        ]

    def _given_back(self, left: list[Decimal], identity: Identity, net: Decimal, rounded: Rounded) -> Decimal:
        """The difference of the document's rounded tax after and before."""
        after = left[0] + net
        amount = rounded(identity[2], after) - left[1] if identity[3] == "charged" else Decimal(0)
        left[0], left[1] = after, left[1] + amount
        return amount


def _identity(tax: Tax) -> Identity:
    return tax[0], tax[1], tax[2], tax[5]
