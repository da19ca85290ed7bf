"""The command `try`: what a raw log would become, or the entry of `sources:` that could read it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from billing.model.errors import RefusedError
from billing.model.text import counted
from pipeline.exit_status import DONE, PARTLY
from pipeline.output import print_rows, say, tell

if TYPE_CHECKING:
    from billing.model.catalogue import Catalogue
    from billing.reports.source_proposals import Proposal
    from billing.reports.try_file import Trial

_MOST_FIELDS_SHOWN = 40


def try_and_tell(path: Path, home: Path, *, source: str | None, rows: int, style: str) -> int:
    """Try a file for a home, print what came of it, and return the exit status.

    Raises
    ------
    RefusedError
        When the catalogue is refused, or there is no source of this name.
    """
    from billing.ingest.formats.compression import UnreadableFileError
    from billing.reports.source_proposals import is_read_without_source, propose
    from billing.reports.try_file import Wanted, try_file

    wanted = Wanted.of(path, home) if (home / "landing" / "catalogue.yaml").is_file() else None
    reader = wanted.source(source) if wanted else None
    if wanted is None or (reader is None and not is_read_without_source(path)):
        try:
            proposal = propose(path, wanted.name if wanted else path.name, wanted.catalogue.metrics if wanted else ())
        except UnreadableFileError as error:
            raise RefusedError(f"{path}: {error}") from error
        _tell_proposal(path, home, proposal, wanted.catalogue if wanted else None, style)
        return DONE
    trial = try_file(wanted, reader, rows)
    if style == "json":
        click.echo(json.dumps(_as_json(trial), ensure_ascii=False, indent=1))
    else:
        _tell_trial(trial, wanted.catalogue)
    return PARTLY if trial.unreadable else DONE


def _as_json(trial: "Trial") -> dict[str, Any]:
    return {
        "file": trial.file,
        "source": trial.source.name if trial.source else None,
        "format": trial.source.format if trial.source else None,
        "day": trial.day.isoformat() if trial.day else None,
        "events": trial.events,
        "rejects": trial.rejects,
        "reasons": trial.reasons,
        "totals": trial.totals,
        "unreadable": trial.unreadable or None,
    }


def _tell_trial(trial: "Trial", catalogue: "Catalogue") -> None:
    by = f"by the source {trial.source.name} ({trial.source.format})" if trial.source else "without a source"
    aged = f"as delivered on {trial.day}" if trial.day else "whatever its day of delivery"
    tell(f"{trial.file}: read {by}, {aged}")
    totals = trial.totals
    if totals:
        outcomes = ("counted", "duplicates", "rejected", "ignored")
        words = ", ".join(f"{totals[name]:,} {name}" for name in outcomes if totals[name] or name == "counted")
        rows = f"{totals['rows']:,}"
        tell(f"{counted(rows, 'row')}: {words}")
        if totals["rounded"]:
            tell(f"{totals['rounded']:,} of them rounded to nine decimals")
        if totals["first_time"]:
            tell(f"from {totals['first_time']} to {totals['last_time']}")
        units = {metric.name: metric for metric in catalogue.metrics}
        for name, amount in totals["sums"].items():
            metric = units[name]
            what = {"count": "events", "unique": "different ones", "max": "at most"}.get(metric.measure, "together")
            base = "" if metric.unit is None else f" (base units: {metric.unit_size:,} make one {metric.unit})"
            tell(f"{name}: {amount} {what}{base}")
    if trial.events:
        tell("")
        tell(f"The first {counted(len(trial.events), 'event')}:")
        columns = list(dict.fromkeys(name for event in trial.events for name in event if name != "from"))
        taken = {name: words for event in trial.events for name, words in event["from"].items()}
        print_rows([{name: event.get(name) for name in columns} for event in trial.events], columns, "table")
        tell("Taken from: " + "; ".join(f"{name}: {words}" for name, words in taken.items()))
    if trial.rejects:
        tell("")
        tell("Set aside: " + ", ".join(f"{reason} {number:,}" for reason, number in trial.reasons.items()))
        columns = ["row", "reason", "field", "found", "expected", "text"]
        print_rows([{name: _short(reject[name]) for name in columns} for reject in trial.rejects], columns, "table")
    if trial.unreadable:
        say(f"nothing of this file would count: {trial.unreadable}")


def _short(value: Any) -> Any:
    return f"{value[:77]}..." if isinstance(value, str) and len(value) > 80 else value


def _tell_proposal(path: Path, home: Path, proposal: "Proposal", catalogue: "Catalogue | None", style: str) -> None:
    if style == "json":
        fields = [{"name": each.name, "example": each.example, "time": each.time or None} for each in proposal.fields]
        shown = {"format": proposal.format, "found": proposal.found, "fields": fields, "entry": proposal.entry}
        click.echo(json.dumps({"file": str(path), "source": None, "proposal": shown}, ensure_ascii=False, indent=1))
        return
    if catalogue is None:
        tell(f"# {home} is no billing home yet: `overage init` writes one to start from.")
    else:
        tell(f"# {path}: no source of the catalogue matches, and it holds no CloudEvents.")
    tell(f"# It looks like {proposal.format}: {proposal.found}.")
    tell("#")
    tell("# Its fields, each with a value:")
    for each in proposal.fields[:_MOST_FIELDS_SHOWN]:
        time = f"   (a time: {each.time})" if each.time else ""
        # A comment stays one line.
        example = " ".join(each.example[:80].split()) or "(empty)"
        tell(f"#   {each.name}: {example}{time}")
    if len(proposal.fields) > _MOST_FIELDS_SHOWN:
        tell(f"#   and {len(proposal.fields) - _MOST_FIELDS_SHOWN} more")
    tell("#")
    if catalogue is not None:
        tell("# The event types that the metrics of the catalogue measure:")
        for metric in catalogue.metrics:
            value = f"reads {'.'.join(metric.value)}" if metric.value else "counts"
            tell(f"#   {metric.event}: {metric.name} {value}")
        tell("#")
    goes_on = catalogue is not None and bool(catalogue.sources)
    where = "below the other entries of `sources:` in" if goes_on else "into"
    tell(f"# Paste this {where} {home / 'landing' / 'catalogue.yaml'}, answer every ? and try again:")
    tell("")
    for line in proposal.entry.splitlines()[1 if goes_on else 0 :]:
        tell(line)
