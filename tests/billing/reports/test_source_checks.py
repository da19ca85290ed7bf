"""What `check` says about sources and aliases beyond what is refused."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from billing.ingest.dry_run import usage_that_would_be_set_aside
from billing.ingest.landing import delivered_files
from billing.inputs.catalogue_file import load_catalogue
from billing.inputs.reading import Inputs, read_inputs
from billing.model.catalogue import Catalogue
from billing.reports.source_checks import source_warnings
from billing.starter import write_starter_home
from billing.store.home import Home
from tests.billing.ingest.raw_logs import aliases, business, one_source, sources_of

EVENT = "id: content, type: {const: email.sent}, subject: {field: who}, time: {field: at, zone: UTC}"


@pytest.fixture(scope="module")
def starting(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalogue, Inputs]:
    home = Home(tmp_path_factory.mktemp("home"))
    write_starter_home(home.root)
    catalogue = load_catalogue(home.landing / "catalogue.yaml")
    return catalogue, read_inputs(home, catalogue)


def warnings(starting: tuple[Catalogue, Inputs], event: str, names: pl.DataFrame | None = None) -> list[str]:
    catalogue, inputs = starting
    catalogue = replace(catalogue, sources=sources_of(one_source("csv", event)))
    return source_warnings(inputs if names is None else replace(inputs, aliases=names), catalogue)


def test_a_sound_source_has_no_warning(starting: tuple[Catalogue, Inputs]) -> None:
    assert warnings(starting, EVENT) == []


def test_times_no_finer_than_a_day_are_told_where_the_content_is_the_identity(
    starting: tuple[Catalogue, Inputs],
) -> None:
    daily = EVENT.replace("zone: UTC", 'format: "%d.%m.%Y", zone: UTC')
    (words,) = warnings(starting, daily)
    assert words.startswith("catalogue.yaml: sources[0].event.time: found the format %d.%m.%Y, which is no finer than")
    assert warnings(starting, daily.replace("content", "{field: n}")) == []


def test_a_kind_of_alias_that_is_nowhere_and_an_account_that_is_unknown_are_told(
    starting: tuple[Catalogue, Inputs],
) -> None:
    aliased = EVENT.replace("field: who", "field: who, alias: host")
    (words,) = warnings(starting, aliased)
    assert "sources[0].event.subject.alias: found no host in landing/aliases.csv" in words
    (words,) = warnings(starting, aliased, aliases(("host", "a", "nobody", None, None)))
    assert words.startswith("aliases: found nobody, expected an account_id of the accounts file")


def test_a_type_that_no_metric_measures_is_told(starting: tuple[Catalogue, Inputs]) -> None:
    (words,) = warnings(starting, EVENT.replace("{const: email.sent}", "{field: k, map: {a: email.sent, b: mail}}"))
    assert "sources[0].event.type: found mail, which no metric measures, expected one of: bandwidth.served" in words


def test_delivered_times_that_are_days_are_told(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("csv", f"{EVENT}, data.count: {{field: n}}"), time_zone="Europe/Berlin")

    def told() -> list[str]:
        return usage_that_would_be_set_aside(home.home, delivered_files(home.home, None), home.rules(), every_row=False)

    home.deliver(["who,at,n", "acme,2026-01-01,1", "acme,2026-01-01,2", "acme,2026-01-02,2"], name="a.csv")
    (words,) = told()
    assert words.startswith("usage/2026-01-02/a.csv: found no time that is finer than a day")
    home.deliver(["who,at,n", "acme,2026-01-01,1", "acme,2026-01-01 10:00:00,2", "acme,2026-01-02,2"], name="a.csv")
    assert told() == []
