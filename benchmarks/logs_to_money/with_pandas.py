"""The month with pandas: rows decoded by Python's json, as pandas' own reader of JSON lines fails at a bad one."""

from decimal import Decimal
from pathlib import Path

import pandas as pd

from benchmarks.logs_to_money.answer import Answer, run
from benchmarks.logs_to_money.plain_rows import Row, lines, packages, rows
from benchmarks.month_of_usage import TARIFFS


def bill(home: Path, folder: Path) -> Answer:
    """Read all rows into one frame; all that follows is vectorised."""
    folder.mkdir(parents=True)
    found = pd.DataFrame.from_records(list(rows(home)), columns=Row._fields)
    valid = found[found["reason"].isna()].copy()
    valid["time"] = pd.to_datetime(valid["time"], format="ISO8601", utc=True)
    content = ["account", "metric", "time", "value"]
    first = valid.drop_duplicates(["source", "id"])
    again = valid[valid.duplicated(["source", "id"])]
    compared = again.merge(first[["source", "id", *content]], on=["source", "id"], suffixes=("", "_first"))
    same = (compared[content].to_numpy() == compared[[f"{name}_first" for name in content]].to_numpy()).all(axis=1)
    repeats = compared[same].groupby(["source", "id"]).size().rename("repeats").reset_index()
    events = first.merge(repeats, on=["source", "id"], how="left").fillna({"repeats": 0})
    events.drop(columns=["reason", "text"]).to_parquet(folder / "events.parquet", compression="zstd")
    conflicts = compared[~same].assign(reason="conflicting")
    places = list(zip(conflicts["day"], conflicts["row"], strict=True))
    texts = lines(home, places)
    conflicts["text"] = [texts[place] for place in places]
    rejects = pd.concat([found[found["reason"].notna()], conflicts[list(Row._fields)]])
    rejects.to_parquet(folder / "rejects.parquet", compression="zstd")
    month = (events["time"] >= "2026-01-01") & (events["time"] < "2026-02-01")
    quantity = _usage(events[month])
    charges = pd.DataFrame(packages(home), columns=["account", "package"]).merge(TARIFFS.to_pandas(), on="package")
    charges = charges.merge(quantity, on=["account", "metric"], how="left").fillna({"quantity": 0})
    excess = (charges["quantity"].astype("int64") - charges["allowance"]).clip(lower=0)
    # in ten-thousandths, so that whole numbers stay exact
    price = charges["price"].map(lambda text: int(Decimal(text) * 10_000))
    charges["amount"] = -(-excess // charges["block"]) * price
    charges.to_parquet(folder / "charges.parquet", compression="zstd")
    overage = charges.groupby("metric")["amount"].sum()
    return Answer.of(
        overage={metric: Decimal(int(amount)) / 10_000 for metric, amount in overage.items()},
        counted=len(events),
        duplicates=int(same.sum()),
        rejects=rejects["reason"].value_counts().to_dict(),
        texts=rejects["text"],
    )


def _usage(events: pd.DataFrame) -> pd.DataFrame:
    counters = events[events["metric"] != "leads"].groupby(["account", "metric"])["value"].sum()
    changes = events[events["metric"] == "leads"].groupby(["account", "time"], sort=True)["value"].sum()
    peak = changes.groupby("account").cumsum().groupby("account").max().clip(lower=0)
    leads = peak.rename("quantity").reset_index().assign(metric="leads")
    return pd.concat([counters.rename("quantity").reset_index(), leads])


if __name__ == "__main__":
    run(bill)
