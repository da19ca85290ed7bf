"""Withdrawals: a withdrawn request counts as never made (rule 17)."""

from typing import Final

import polars as pl

from billing.model.codes import Channel, DecisionKind, DecisionReason, Outcome
from billing.model.empty_frames import skip_if_empty

_COLUMNS: Final = ["request_id", "account_id", "at", "on", "kind", "package"]


def without_withdrawn(requests: pl.DataFrame, decided: pl.Series) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split off withdrawals and the requests that they withdraw, and answer both.

    A withdrawal is made through support and names an earlier or later request of the same account. A package change
    that was decided when its cycle closed stands.

    Parameters
    ----------
    requests
        As `Inputs.requests`, cut at the as-of day.
    decided
        The ids of the requests that were decided when a billing date closed.

    Returns
    -------
    tuple of polars.DataFrame
        The requests without withdrawals and what they take back; and request_id, account_id, at, on, kind, package,
        outcome, reason of these.
    """
    if not (requests["kind"] == DecisionKind.WITHDRAW).any():
        schema = {name: requests.schema[name] for name in _COLUMNS} | {"outcome": pl.String, "reason": pl.String}
        return requests, pl.DataFrame(schema=schema)
    is_withdrawal = pl.col("kind") == DecisionKind.WITHDRAW
    others, asked = requests.filter(~is_withdrawal), requests.filter(is_withdrawal)
    judged = _judged(asked, others, decided)
    withdrawn = judged.filter(pl.col("refusal").is_null()).select(request_id="withdraws")
    approved = pl.col("refusal").is_null()
    answers = pl.concat(
        [
            judged.select(
                *_COLUMNS,
                outcome=pl.when(approved).then(pl.lit(Outcome.APPROVED)).otherwise(pl.lit(Outcome.REFUSED)),
                reason=pl.col("refusal").fill_null(DecisionReason.TAKEN_BACK),
            ),
            others.join(withdrawn, on="request_id", how="semi").select(
                *_COLUMNS, outcome=pl.lit(Outcome.SUPERSEDED), reason=pl.lit(DecisionReason.WITHDRAWN)
            ),
        ]
    )
    return others.join(withdrawn, on="request_id", how="anti", maintain_order="left"), answers


@skip_if_empty("asked")
def _judged(asked: pl.DataFrame, others: pl.DataFrame, decided: pl.Series) -> pl.DataFrame:
    """Withdrawals with `refusal`; null where it takes back a request of the same account."""
    of_account = others.select("account_id", withdraws="request_id", is_there=pl.lit(True))
    refusal = pl.coalesce(
        pl.when(pl.col("channel") != Channel.SUPPORT).then(pl.lit(DecisionReason.WRONG_CHANNEL)),
        pl.when(pl.col("is_there").is_null()).then(pl.lit(DecisionReason.UNKNOWN_REQUEST)),
        pl.when(pl.col("withdraws").is_in(decided.implode())).then(pl.lit(DecisionReason.KNOWN_AFTER_THE_CLOSE)),
    )
    judged = (
        asked.join(of_account, on=["account_id", "withdraws"], how="left", maintain_order="left")
        .with_columns(refusal=refusal)
        .sort("at", "request_id")
    )
    is_first = pl.int_range(pl.len()).over("withdraws") == 0
    return pl.concat(
        [
            judged.filter(pl.col("refusal").is_not_null()),
            judged.filter(pl.col("refusal").is_null()).with_columns(
                refusal=pl.when(~is_first).then(pl.lit(DecisionReason.ALREADY_WITHDRAWN))
            ),
        ]
    )
