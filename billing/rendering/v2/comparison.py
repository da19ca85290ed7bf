"""Why the document differs from the last one: what moved, and which package change did it (rule 23)."""

from typing import Final

from billing.model.codes import DecisionKind, DecisionReason
from billing.rendering.content import Fields
from billing.rendering.fonts import covered_by_inter, width_in_ems
from billing.rendering.v2.formats import Formats
from billing.rendering.v2.lines import MILLIMETRES_PER_POINT, Quantities
from billing.rendering.words import N_, Words

LABEL: Final = 85.8
NUMBER: Final = 26.0
POINTS: Final = 8.6
MOST_IN_FRONT: Final = 10
"""Rows of movements before the charges: with its words the box takes less than a third of the first page."""

_MOVED: Final = {
    "package_fee": N_("Package fee"),
    "hold_fee": N_("Hold fee"),
    "earlier_cycles": N_("Earlier cycles"),
    "tax": N_("Tax"),
    "coupon": N_("Discounts"),
    "coupons": N_("Discounts"),
    "charge": N_("One-off charges"),
    "charges": N_("One-off charges"),
    "add_on": N_("Add-ons"),
    "add_ons": N_("Add-ons"),
    "minimum_spend": N_("Minimum spend"),
    "seats": N_("Seats"),
    "proration": N_("Change within the cycle"),
    "prepayment": N_("Prepaid credit"),
}


def comparison_of(document: Fields, out: Formats, words: Words) -> dict[str, object]:
    """Comparison with the last document; `moved` stands before the charges, `moved_after` behind them.

    What a credit note gives back is below 0 here: it is compared with what was charged.
    """
    comparison = document.fields("comparison")
    difference = comparison.decimal("difference")
    values = {
        "number": comparison.text("previous_number"),
        "date": out.day(comparison.day("previous_date")),
        "previous": out.money_with_currency(comparison.decimal("previous_total"), comparison.place("previous_total")),
        "current": out.money_with_currency(document.decimal("total"), "total"),
        "difference": out.money_with_currency(abs(difference), comparison.place("difference")),
    }
    if difference > 0:
        heading = words.gettext("Why it is higher than last time")
        text = words.gettext(
            "This is {difference} higher than {number} of {date}: {previous} then, {current} now.", **values
        )
    elif difference < 0:
        heading = words.gettext("Why it is lower than last time")
        text = words.gettext(
            "This is {difference} lower than {number} of {date}: {previous} then, {current} now.", **values
        )
    else:
        heading = words.gettext("The same total as last time")
        text = words.gettext("The total is the same as on {number} of {date}: {current}.", **values)
    movements = [_movement(row, out, words) for row in comparison.rows("movements")]
    after = words.gettext("What moved is listed after the charges.")
    is_short = len(movements) <= MOST_IN_FRONT and all(map(_is_one_line, movements))
    return {
        "heading": heading,
        "text": text if is_short else f"{text}\n{after}",
        "plain": not difference,
        "headings": [
            words.gettext("What moved"),
            words.gettext("Then"),
            words.gettext("Now"),
            words.gettext("Difference"),
        ],
        "moved": movements if is_short else [],
        "moved_after": [] if is_short else movements,
        # Fonts of other scripts make lines of other heights: columns of lines would not align.
        "lined": is_short and covered_by_inter("".join(row["label"] for row in movements)),
    }


def _movement(row: Fields, out: Formats, words: Words) -> dict[str, str]:
    what = row.text("what")
    label = _MOVED.get(what, "")
    return {
        "label": words.gettext(label)
        if label
        else row.optional("metric_title") or row.optional("metric") or words.gettext("Other charges"),
        "previous": out.money(row.decimal("previous"), row.place("previous")),
        "current": out.money(row.decimal("current"), row.place("current")),
        "difference": out.change_of_money(row.decimal("difference"), row.place("difference")),
    }


def _is_one_line(movement: dict[str, str]) -> bool:
    """Whether a movement fits on one line in each column, so that columns of lines align."""
    points = POINTS * MILLIMETRES_PER_POINT
    numbers = max(width_in_ems(value, bold=True) for name, value in movement.items() if name != "label")
    label = movement["label"]
    return label.isprintable() and width_in_ems(label) * points <= LABEL - 2 and numbers * points <= NUMBER - 1


def change_of(row: Fields, words: Words, out: Formats) -> dict[str, object]:
    """A package change, why it was made, and the usage that speaks for it."""
    values = {
        "origin": row.optional("from_title") or row.text("from_package"),
        "target": row.optional("to_title") or row.text("to_package"),
        "date": out.day(row.day("effective_on")),
    }
    sentences = [_reason(row, words, values)]
    if row.holds("voids_downgrade") and row.flag("voids_downgrade"):
        sentences.append(words.gettext("The smaller package that waited for the end of the term is void."))
    evidence = []
    for proof in row.rows("evidence") if row.holds("evidence") else []:
        amount_of = Quantities(proof, out)
        metric, quantity = proof.optional("metric_title") or proof.text("metric"), amount_of(proof.decimal("quantity"))
        if proof.holds("allowance"):
            allowance = amount_of(proof.decimal("allowance"))
            evidence.append(
                words.gettext(
                    "{metric}: {quantity} used, {allowance} included.",
                    metric=metric,
                    quantity=quantity,
                    allowance=allowance,
                )
            )
        else:
            evidence.append(words.gettext("{metric}: {quantity} used, unlimited.", metric=metric, quantity=quantity))
    return {
        "heading": words.gettext("Package change: {origin} → {target}, from {date}", **values),
        "text": " ".join(sentences),
        "evidence": " ".join(evidence),
    }


def _reason(row: Fields, words: Words, values: dict[str, str]) -> str:
    why = row.optional("why")
    if row.optional("reason") == DecisionKind.AUTO_UPGRADE or why == DecisionReason.USAGE_OVER_ALLOWANCE:
        return words.gettext(
            "Your usage in the last cycle was over the allowance of {origin}, so your package is {target} from {date}.",
            **values,
        )
    if why == DecisionReason.USAGE_FITS:
        return words.gettext("Your usage fits {target}, so as you asked it is your package from {date}.", **values)
    return words.gettext("As you asked, your package is {target} from {date}.", **values)
