"""The second opinion about prepaid credits (rule 33): which grants pay which documents, and what notes give back."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from decimal import Decimal

from tests.life_story.oracle_facts import Document, Json, Line

Use = tuple[str, Decimal, str | None]  # a grant, what it pays (below 0: gets back), and of which document


def prepayments(grants: Sequence[Json]) -> Iterator[Line]:
    """What purchased grants cost."""
    for grant in grants:
        if grant["kind"] == "purchased":
            on, name = date.fromisoformat(grant["granted_on"]), grant["grant_id"]
            yield Line(
                "prepayment",
                None,
                None,
                None,
                None,
                None,
                Decimal(grant["amount"]),
                on,
                "prepayment",
                item=name,
                may_be_lowered=False,
            )


class Credits:
    """What is left of grants, and what they paid of which document."""

    def __init__(self, local: Callable[[str], date]) -> None:
        self.local = local
        self.used: dict[str, Decimal] = defaultdict(Decimal)
        self.of_document: dict[str, list[tuple[str, Decimal]]] = defaultdict(list)

    def order(self, grant: Json) -> tuple[object, ...]:
        """Lowest priority, soonest expiry, granted before purchased, oldest, grant_id."""
        return (
            int(grant["priority"] or 100),
            grant["expires_on"] or "9999-12-31",
            grant["kind"] == "purchased",
            grant["granted_on"],
            grant["grant_id"],
        )

    def paid_on(self, grant: Json, documents: Sequence[Document], payments: Sequence[Json], as_of: date) -> date | None:
        """The day on which a purchased grant was paid."""
        bills = [d for d in documents if d.is_prepayment and d.lines[0].item == grant["grant_id"]]
        if not bills:
            return None
        kept, day = Decimal(0), None
        for payment in sorted(payments, key=lambda p: (self.local(p["at"]), p["payment_id"])):
            if payment["document"] == bills[0].number and self.local(payment["at"]) <= as_of:
                sign = {"succeeded": 1, "failed": 0}.get(payment["status"], -1)
                before, kept = kept, kept + sign * Decimal(payment["amount"])
                if before < bills[0].total <= kept:
                    day = max(self.local(payment["at"]), bills[0].issued_on)
        return day if kept >= bills[0].total else None

    def paid(
        self, document: Document, grants: Sequence[Json], all_documents: Sequence[Document], payments: Sequence[Json]
    ) -> list[Use]:
        """What grants pay of a document, in order."""
        open_, uses = document.total, list[Use]()
        if document.is_prepayment:
            return []
        day = document.billing_date
        for grant in sorted((g for g in grants if g["account_id"] == document.account_id), key=self.order):
            usable = date.fromisoformat(grant["granted_on"])
            if grant["kind"] == "purchased":
                paid = self.paid_on(grant, all_documents, payments, document.issued_on)
                if paid is None:
                    continue
                usable = max(usable, paid)
            expires = date.fromisoformat(grant["expires_on"]) if grant["expires_on"] else date.max
            left = Decimal(grant["amount"]) - self.used[grant["grant_id"]]
            part = min(open_, left)
            if usable <= day < expires and part > 0:
                uses.append((grant["grant_id"], part, None))
                open_ -= part
        return uses

    def take(self, document: Document, uses: Sequence[Use]) -> None:
        """Remember what an issued document used, or gave back, and check that it gives back what was used last."""
        for grant, amount, of in uses:
            self.used[grant] += amount
            if of is None:
                self.of_document[document.number].append((grant, amount))
            else:
                last, paid = self.of_document[of].pop()
                assert last == grant, f"{document.number} gives back to {grant} before {last}"
                assert -amount <= paid, f"{document.number} gives {-amount} back to {grant}, which paid {paid}"
                if paid + amount:
                    self.of_document[of].append((grant, paid + amount))
        document.credits_applied = sum((amount for _, amount, _ in uses), Decimal(0))
        assert abs(document.credits_applied) <= abs(document.total)
