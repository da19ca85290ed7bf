"""What settles an earlier cycle, in words for finance: pages say it in the customer's language (rules 20 and 23)."""

from typing import Final

from billing.model.codes import WhySettled

_SENTENCES: Final[dict[str, str]] = {
    WhySettled.NO_BILLING_DATE: "This date is none of the subscription's billing dates any more: nothing is due on it.",
    WhySettled.NO_FEE: "No fee is due on this date.",
    WhySettled.NO_FEE_TERM: "No fee falls due on this date: it lies inside a term that is paid.",
    WhySettled.NO_FEE_CANCELLED: "No fee is due on this date: the subscription is cancelled.",
    WhySettled.NO_FEE_HELD: "No fee is due on this date: the subscription is on hold.",
    WhySettled.NO_FEE_REFUNDED: "No fee is due on this date: the subscription ended with a refund.",
    WhySettled.NO_FEE_SUSPENDED: "No fee is due on this date: access was suspended.",
    WhySettled.NO_HOLD_FEE: "No hold fee is due on this date.",
    WhySettled.NOT_BILLED_WHEN_DUE: "It was not billed when it fell due.",
    WhySettled.DUE_AFTER_ALL: "It is due after all: what was billed for it had been given back.",
    WhySettled.SAME_FEE_OTHER_PRICE: "The same fee has another price now.",
    WhySettled.ANOTHER_FEE: "Another fee is due now than was billed.",
    WhySettled.METRIC_REMOVED: "The catalogue in force has no {metric} any more: nothing is due for it.",
    WhySettled.NO_CYCLE: "This cycle is none of the subscription's any more: nothing is due for it.",
    WhySettled.COST_NOTHING_BEFORE: "It cost nothing by what was known when the cycle was billed.",
}
_USAGE: Final[dict[str, str]] = {
    WhySettled.MORE_USAGE: "More usage of the cycle counts now than when it was billed",
    WhySettled.LESS_USAGE: "Less usage of the cycle counts now than when it was billed",
    WhySettled.SAME_USAGE: "The usage is the same",
}
_OTHERS: Final = {
    "_other_allowance_and_price": "allowance and price are others now",
    "_other_allowance": "the allowance is another now",
    "_other_price": "its price is another now",
    "": "",
}


def why_settled(why: str | None, metric: str | None) -> list[str]:
    """A code of WhySettled in words; documents of version 1 have the words themselves."""
    if why is None:
        return []
    if why in _SENTENCES:
        return [_SENTENCES[why].replace("{metric}", metric or "such metric")]
    for usage, words in _USAGE.items():
        if why.startswith(usage):
            moved = _OTHERS[why.removeprefix(usage)]
            return [f"{words}{', ' if usage == WhySettled.SAME_USAGE else ', and '}{moved}." if moved else f"{words}."]
    return [why]
