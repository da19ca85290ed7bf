"""Warnings of `check` about sources and aliases: what is read as written, and seldom meant (rule 39)."""

import polars as pl

from billing.inputs.reading import Inputs
from billing.model.catalogue import Catalogue
from billing.model.text import counted

_MOST_SHOWN = 5


def source_warnings(inputs: Inputs, catalogue: Catalogue) -> list[str]:
    """Warnings, each with place, what was found and what was expected."""
    found = []
    kinds = inputs.aliases["kind"].unique().to_list()
    types = {metric.event for metric in catalogue.metrics}
    for place, source in enumerate(catalogue.sources):
        where = f"catalogue.yaml: sources[{place}]"
        if source.id.kind == "content" and not source.time.has_time_of_day:
            found.append(
                f"{where}.event.time: found the format {source.time.format}, which is no finer than a day, expected a "
                "time of day or an id of its own: equal records of a day in two files are taken for one"
            )
        if source.subject.alias and source.subject.alias not in kinds:
            found.append(
                f"{where}.event.subject.alias: found no {source.subject.alias} in landing/aliases.csv, expected the "
                "accounts behind these names"
            )
        given = [source.type.const] if source.type.const is not None else [kind for _, kind in source.type.map]
        found += [
            f"{where}.event.type: found {kind}, which no metric measures, expected one of: {', '.join(sorted(types))}"
            for kind in given
            if kind not in types
        ]
    return found + _unknown_accounts(inputs)


def _unknown_accounts(inputs: Inputs) -> list[str]:
    known = inputs.known_accounts
    unknown = inputs.aliases.filter(~pl.col("account_id").is_in(known.implode()))["account_id"].unique().sort()
    if unknown.is_empty():
        return []
    more = len(unknown) - _MOST_SHOWN
    further = f" and {counted(more, 'more account')}" if more > 0 else ""
    return [
        f"aliases: found {', '.join(unknown[:_MOST_SHOWN])}{further}, expected an account_id of the accounts file: "
        "usage under these names is set aside until there is one"
    ]
