"""Lost deliveries: every issue records the deliveries that usage was measured from (rule 22).

A delivery that only disappears from landing changes nothing: its parsed rows stay in the lake. One that is in neither
is lost: do not compute again what was measured from it, or its usage would be credited silently.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Final

import polars as pl

from billing.ingest.events import scan_event_files
from billing.ingest.landing import delivered_files
from billing.ingest.state import DayState, read_state
from billing.model.calendar import first_day, months_after
from billing.model.card_numbers import mask_card_numbers
from billing.model.errors import InterruptedRunError
from billing.model.tables import EVENTS
from billing.model.text import counted
from billing.month.business import Business
from billing.month.reasons import printable_reason


def accept_losses(business: Business, reason: str) -> pl.DataFrame:
    """Accept the loss of deliveries, and return them: LOST_SCHEMA (rule 22).

    Cycles measured from them stand as issued; others are measured from the remaining deliveries.

    Raises
    ------
    RefusedError
        When the reason cannot be kept, as `printable_reason`.
    """
    reason = printable_reason(reason)
    lost = lost_deliveries(business)
    if not lost.is_empty():
        business.register.accept_losses(lost.with_columns(accepted_on=pl.lit(business.as_of), reason=pl.lit(reason)))
    return lost


LOST_SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "delivery_day": pl.Date,
    "file": pl.String,
    "sha256": pl.String,
    "counted": pl.Int64,
    "first_day": pl.Date,
    "last_day": pl.Date,
}
RECORD_SCHEMA: Final = {"delivery_day": pl.Date, "version": pl.Int64, "digest": pl.String, "files": pl.String}
_NAMED: Final = 5


def newly_measured(business: Business) -> pl.DataFrame:
    """Records of delivery days that are new or have changed: RECORD_SCHEMA, sorted.

    A day's record lists its files with counted rows: path, hash, counted, first and last local day of the usage, and
    the sum of every metric (the number of events where it has no value).
    """
    state = read_state(business.home)
    if state is None or state.pending:
        return pl.DataFrame(schema=RECORD_SCHEMA)
    known = {day: (version, digest) for day, version, digest in business.register.measured_digests().iter_rows()}
    records = []
    for day, found in sorted(state.days.items()):
        version, digest = known.get(day, (0, ""))
        now = _digest(found)
        # A day without counted events needs no record.
        if day <= business.as_of and now != digest and (version or any(file.counted for file in found.files.values())):
            records.append((day, version + 1, now, _packed(_measured(business, found))))
    return pl.DataFrame(records, schema=RECORD_SCHEMA, orient="row")


def lost_deliveries(business: Business) -> pl.DataFrame:
    """Recorded deliveries up to the as-of day that neither landing nor the lake has: LOST_SCHEMA, sorted.

    Those whose loss was accepted are left out.
    """
    missing = _not_in_lake(business)
    if missing.is_empty():
        return missing
    accepted = business.register.accepted_losses()
    unread = missing.join(accepted, on=["delivery_day", "file", "sha256"], how="anti")
    return unread.filter(~_in_landing(business, unread)).sort("delivery_day", "file")


def missing_usage(business: Business, first: date, last: date) -> str:
    """Deliveries with usage of these local days that are missing in the lake, in words; empty if none."""
    unread = _not_in_lake(business).filter((pl.col("last_day") >= first) & (pl.col("first_day") <= last))
    lost = unread.filter(~_in_landing(business, unread)).sort("delivery_day", "file")
    if not lost.is_empty():
        return in_words(lost, "with usage of these days")
    if unread.is_empty():
        return ""
    return f"the lake lacks {counted(unread.height, 'delivered file')}, which `overage bill` reads again"


def _not_in_lake(business: Business) -> pl.DataFrame:
    """Recorded deliveries up to the as-of day that are missing in the lake: LOST_SCHEMA."""
    state = read_state(business.home)
    days = state.days if state else {}
    recorded = business.register.measured_digests().filter(pl.col("delivery_day") <= business.as_of)
    moved = [
        (day, version)
        for day, version, digest in recorded.iter_rows()
        if day not in days or _digest(days[day]) != digest
    ]
    found = [
        (day, file["file"], file["sha256"], file["counted"], file["first"], file["last"])
        for day, packed in business.register.measured_files(moved)
        for file in _unpacked(packed)
        if day not in days or file["file"] not in days[day].files
    ]
    frame = pl.DataFrame(found, schema=LOST_SCHEMA | {"first_day": pl.String, "last_day": pl.String}, orient="row")
    return frame.with_columns(pl.col("first_day", "last_day").str.to_date("%Y-%m-%d"))


def _in_landing(business: Business, deliveries: pl.DataFrame) -> pl.Series:
    """Whether landing has files of these days and names: they are read by the next run."""
    # Listing a large landing folder takes seconds: skip it when nothing is missing.
    landed = [] if deliveries.is_empty() else delivered_files(business.home, business.as_of).files
    there = {(file.day, mask_card_numbers(file.name)) for file in landed}
    is_there = [key in there for key in deliveries.select("delivery_day", "file").iter_rows()]
    return pl.Series(is_there, dtype=pl.Boolean)


def losses_that_stand(business: Business) -> pl.DataFrame:
    """The accepted losses of deliveries that have not come back: the columns of `Register.accepted_losses`."""
    losses = business.register.accepted_losses()
    if losses.is_empty():
        return losses
    state = read_state(business.home)
    there = [
        (day, file) for day, found in sorted((state.days if state else {}).items()) for file in sorted(found.files)
    ]
    known = pl.DataFrame(there, schema={"delivery_day": pl.Date, "file": pl.String}, orient="row")
    return losses.join(known, on=["delivery_day", "file"], how="anti", maintain_order="left")


def refuse_lost_deliveries(business: Business, month: str, since: date | None = None) -> None:
    """Refuse to compute again what was measured from lost deliveries.

    Parameters
    ----------
    since
        The first local day of usage that is read; the month before's first day where left out.

    Raises
    ------
    InterruptedRunError
        When usage of the days that the month reads is lost, naming its deliveries and how to go on.
    """
    lost = lost_deliveries(business)
    if lost.is_empty():
        return
    first, after = since or first_day(months_after(month, -1)), first_day(months_after(month, 1))
    read = lost.filter((pl.col("last_day") >= first) & (pl.col("first_day") < after))
    if read.is_empty():
        return
    raise InterruptedRunError(
        f"{month}: nothing of it was computed again or issued, because {in_words(read)}. Put their archive back into "
        "landing/usage, or go on without them by `overage accept-loss --reason TEXT`"
    )


def in_words(lost: pl.DataFrame, which: str = "it was measured from") -> str:
    """Describe lost deliveries and the usage counted from them; `which` names the selection."""
    names = [f"usage/{day}/{file}" for day, file in lost.select("delivery_day", "file").head(_NAMED).iter_rows()]
    further = f" and {lost.height - _NAMED} more" if lost.height > _NAMED else ""
    events = counted(f"{lost['counted'].sum():,}", "row")
    are = f"delivery {which} is" if lost.height == 1 else f"deliveries {which} are"
    return f"{lost.height} {are} neither in landing nor in the lake: {', '.join(names)}{further} ({events} counted)"


def _measured(business: Business, day: DayState) -> list[dict[str, object]]:
    """The files of a day with counted rows, sorted by path."""
    home, zone = business.home, business.catalogue.time_zone
    paths = [home.lake / path for path in sorted(day.outputs) if path.startswith(f"{EVENTS.name}/")]
    local = pl.col("time").dt.convert_time_zone(zone).dt.date()
    sums = (
        scan_event_files(replace(home, buckets=None), paths)
        .group_by("file", "metric")
        .agg(
            total=pl.col("value").sum(),
            has_value=pl.col("value").is_not_null().any(),
            events=pl.len(),
            first=local.min().dt.to_string("%Y-%m-%d"),
            last=local.max().dt.to_string("%Y-%m-%d"),
        )
        .sort("file", "metric")
        .collect(engine="streaming")
        .partition_by("file", as_dict=True, maintain_order=True)
    )
    found = []
    for name, file in sorted(day.files.items()):
        rows = sums.get((name,))
        if rows is None:
            continue
        found.append(
            {
                "file": name,
                "sha256": file.sha256,
                "counted": file.counted,
                "first": rows["first"].min(),
                "last": rows["last"].max(),
                "sums": {
                    metric: f"{total.normalize():f}" if has_value else str(events)
                    for metric, total, has_value, events in rows.select(
                        "metric", "total", "has_value", "events"
                    ).iter_rows()
                },
            }
        )
    return found


def _digest(day: DayState) -> str:
    """A hash of a day's deliveries and what was counted from them."""
    files = [[name, file.sha256, file.counted] for name, file in sorted(day.files.items()) if file.counted]
    events = [[path, digest] for path, (_, digest) in sorted(day.outputs.items()) if path.startswith(f"{EVENTS.name}/")]
    return hashlib.sha256(json.dumps([files, events]).encode()).hexdigest()


def _packed(files: Sequence[dict[str, object]]) -> str:
    """The record of a day, compressed to text: a day may have many files."""
    return base64.b64encode(zlib.compress(json.dumps(files, sort_keys=True).encode(), 9)).decode()


def _unpacked(text: str) -> list[dict[str, str]]:
    files: list[dict[str, str]] = json.loads(zlib.decompress(base64.b64decode(text)))
    return files
