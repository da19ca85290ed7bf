"""What stands on the pages of Dagster: small however large the business, and columns that say where they come from."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from decimal import Decimal
from typing import NamedTuple
from unittest import mock

import dagster as dg
import polars as pl
import pytest
import yaml

from assets.metadata import first_of, markdown_table
from billing.model import tables
from billing.model.columns import Table
from billing.starter import starter_catalogue
from pipeline.definitions import defs
from tests.pipeline.outside import Landing, blank_files, blank_page, event

MOST_BYTES = 50_000
PACKAGES = 34
METRICS = 32


def wide_catalogue() -> str:
    """More packages and metrics than a page has room for."""
    metrics = {
        f"metric_{number:03}": {"event": f"used.{number}", "kind": "counter", "measure": "sum", "value": "data.count"}
        for number in range(METRICS)
    }
    terms = {
        "effective_from": "2026-01-01",
        "allowances": dict.fromkeys(metrics, 0),
        "overage": {metric: {"model": "block", "size": 1, "price": "1.00"} for metric in metrics},
    }
    packages = [
        {
            "name": f"package-{rank:03}",
            "rank": rank,
            "title": f"Size {rank}",
            "versions": [{**terms, "price": {"monthly": f"{rank}.00"}}],
        }
        for rank in range(1, PACKAGES + 1)
    ]
    starter = yaml.safe_load(starter_catalogue()) | {"policy": {}}
    return json.dumps(starter | {"metrics": metrics, "packages": packages})


class Said(NamedTuple):
    """What was said of an asset, or of a check, when it was built; and that as it is stored."""

    name: str
    metadata: Mapping[str, dg.MetadataValue]
    stored: str


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Landing:
    """Every customer has a package of its own and moves to the next; files are unreadable, names are long."""
    landing = Landing(tmp_path_factory.mktemp("wide") / "home", wide_catalogue())
    for rank in range(1, PACKAGES):
        name = f"customer-{rank}"
        landing.customer(name, f"package-{rank:03}")
        landing.request(name, "upgrade", "2026-02-01T09:00:00Z", "self_service", package=f"package-{rank + 1:03}")
        used = event(f"event-{rank}", name, f"used.{rank % METRICS}", {"count": rank}, "2026-01-20T12:00:00Z")
        landing.deliver([used], "2026-01-20", f"{rank}.jsonl")
        landing.deliver(["{"], "2026-01-21", f"{'long' * 40}-{rank}.parquet")
    return landing


@pytest.fixture(scope="module")
def said(landing: Landing) -> list[Said]:
    """Of every asset and check, in two months of a wide business."""
    found: list[Said] = []
    resources = {"billing_home": {"config": {"folder": str(landing.root), "as_of": "2026-02-28"}}}
    with ExitStack() as stack:
        stack.enter_context(mock.patch("billing.month.pdf_files.render_files", blank_files))
        stack.enter_context(mock.patch("billing.reports.month_report_page.draw_page", blank_page))
        stack.enter_context(mock.patch("billing.reports.what_if.writing.draw_page", blank_page))
        instance = stack.enter_context(dg.DagsterInstance.ephemeral())

        def run(job: str, partition: str | None, **operations: object) -> None:
            result = defs.resolve_job_def(job).execute_in_process(
                run_config={"resources": resources, "ops": operations}, partition_key=partition, instance=instance
            )
            for each in result.get_asset_materialization_events():
                built = each.step_materialization_data.materialization
                found.append(Said(built.asset_key.to_user_string(), built.metadata, dg.serialize_value(built)))
            for check in result.get_asset_check_evaluations():
                name = f"{check.asset_key.to_user_string()}.{check.check_name}"
                found.append(Said(name, check.metadata, dg.serialize_value(check)))

        run("ingest", "2026-01-21")
        run("billing_month", "2026-01")
        run("billing_month", "2026-02")
        run("profiles", None)
        run("send_reminders", None)
        for rank in range(1, PACKAGES):
            # it is another file now, and holds late usage
            late = event(f"late-{rank}", f"customer-{rank}", "used.0", {"count": 1}, "2026-01-20T12:00:00Z")
            landing.deliver([late], "2026-01-20", f"{rank}.jsonl")
        run("preview_month", "2026-02")
        run("ingest", "2026-01-20")
        run("billing_month", "2026-01")
        run("correct", "2026-01", corrections={"config": {"reason": "Usage came late"}})
        out = str(landing.root.parent / "what-if")
        asked = {"candidate": "landing/catalogue.yaml", "since": "2026-01", "through": "2026-02", "out": out}
        run("what_if_months", None, what_if={"config": asked})
    return found


def test_no_page_grows_with_the_business(landing: Landing, said: list[Said]) -> None:
    materialized = {key.to_user_string() for key in defs.resolve_asset_graph().materializable_asset_keys}
    assert {each.name for each in said if "." not in each.name} == materialized
    assert [each.name for each in said if len(each.stored) >= MOST_BYTES] == []
    cut = {each.name for each in said if " more" in each.stored}
    wide = {"usage", "packages", "charges", "dues", "billing_report", "unbilled.no_event_is_lost"}
    assert wide | {"ingest.every_file_could_be_read", "ingest.no_ingested_file_has_changed"} <= cut
    page = (landing.root / "reports" / "2026-02.html").read_text()
    assert f"the 15 most frequent of {PACKAGES - 1}" in page
    assert f"{METRICS - 15} others" in page


def test_a_table_or_list_of_thousands_says_how_many_more_there_are() -> None:
    frame = pl.DataFrame({"name": ["a|b" * 1_000] * 10_000, "amount": [Decimal("1234.50")] * 10_000})
    table, texts = markdown_table(frame), first_of(["text" * 1_000] * 10_000)
    assert (table.splitlines()[-1], texts[-1]) == ("and 9,970 more", "and 9,970 more")
    assert max(len(table), sum(map(len, texts))) < MOST_BYTES
    assert markdown_table(frame.head(1).with_columns(name=pl.lit("a|b"))).splitlines()[-1] == "| a\\|b | 1,234.50 |"
    assert first_of(["one", "two"]) == ["one", "two"]


def test_money_on_a_page_has_its_currency(said: list[Said]) -> None:
    money = {"billing_report", "charges", "dues", "drafts", "documents", "balances", "collections", "corrections"}
    assert money | {"preview", "journal"} <= {each.name for each in said if "currency" in each.metadata}
    assert {each.metadata["currency"].value for each in said if "currency" in each.metadata} == {"USD"}
    summed = [
        each.metadata["summary"].value for each in said if each.name == "documents" and "summary" in each.metadata
    ]
    assert {str(table).splitlines()[0] for table in summed} == {
        "| kind | documents | net, USD | tax, USD | total, USD |"
    }
    assert "| package | accounts | fees, USD | overage, USD |" in str(
        next(each for each in said if each.name == "billing_report").metadata["month in one page"].value
    )


def test_columns_come_from_columns_of_assets_above() -> None:
    columns = {table.name: set(table.column_names) for table in vars(tables).values() if isinstance(table, Table)}
    graph = defs.resolve_asset_graph()
    came = {
        (node.key.to_user_string(), column): {
            (source.asset_key.to_user_string(), source.column_name) for source in sources
        }
        for node in graph.asset_nodes
        if "dagster/column_lineage" in node.metadata
        for column, sources in node.metadata["dagster/column_lineage"].deps_by_column.items()
    }
    for (name, column), sources in came.items():
        assert column in columns[name]
        for source, source_column in sources:
            assert source_column in columns[source], (name, column)
            assert dg.AssetKey(source) in graph.get(dg.AssetKey(name)).parent_keys, (name, column)

    def reached(name: str, column: str) -> set[str]:
        return {name}.union(*(reached(*source) for source in came.get((name, column), set())))

    # from a posting to the events, over every table between
    assert {"documents", "drafts", "draft_lines", "dues", "charges"} <= reached("journal", "debit")
    assert reached("charges", "quantity") == {"charges", "usage", "events", "levels"}


def test_the_description_of_a_column_says_where_it_comes_from() -> None:
    schema = defs.resolve_asset_graph().get(dg.AssetKey("drafts")).metadata["dagster/column_schema"]
    described = {column.name: column.description for column in schema.columns}
    assert described["total"].endswith(" (from draft_lines.amount, draft_taxes.amount)")
    assert "(from" not in described["content_hash"]
