"""The dimensions of events on their way into the lake (rules 26, 27 and 34)."""

import io
import json
from dataclasses import replace

import polars as pl
import pytest

from billing.ingest import parsed_files
from billing.inputs.source_entries import read_sources
from billing.inputs.yaml_reader import read_yaml
from tests.billing.ingest.small_business import METRICS, Business, Json, line, metric

BY = (("model", ("data", "model")), ("kind", ("data", "kind")))
TOKENS = replace(metric("tokens", "llm.used", "data.tokens"), by=BY)
PLAIN = replace(TOKENS, by=())
CALLS = replace(metric("calls", "llm.called", None, measure="count"), by=BY[:1])


@pytest.fixture
def business(business: Business) -> Business:
    business.metrics = (*METRICS, TOKENS, CALLS)
    return business


def used(id: str = "1", **data: Json) -> str:
    return line(id, type="llm.used", data={"tokens": 5, **data})


def dimensions(business: Business, name: str = "tokens") -> list[object]:
    return business.events().filter(pl.col("metric") == name).sort("id")["dimensions"].to_list()


class TestValues:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("large", "large"),
            ("Large ", "Large "),
            (4, "4"),
            (4.5, "4.5"),
            (True, "true"),
            (False, "false"),
            (None, None),
            (["a"], None),
            ({"a": 1}, None),
        ],
    )
    def test_json_values_are_texts(self, business: Business, value: Json, text: str | None) -> None:
        business.deliver([used(model=value, kind="output"), used("2", kind="output")])
        assert business.ingest().counted == 2
        assert dimensions(business) == [[text, "output"], [None, "output"]]

    def test_metrics_without_dimensions_have_none(self, business: Business) -> None:
        business.deliver([line("1"), used("2", model="a")])
        business.ingest()
        assert dimensions(business, "emails") == [None]

    def test_counting_metrics_have_them_too(self, business: Business) -> None:
        business.deliver([line("1", type="llm.called", data={"model": "a"}), line("2", type="llm.called", data=None)])
        assert business.ingest().counted == 2
        assert dimensions(business, "calls") == [["a"], [None]]

    def test_csv_columns_are_named_by_their_paths(self, business: Business) -> None:
        rows = [
            "id,source,type,subject,time,value,data.model",
            "1,/a,llm.used,acme,2026-01-01T12:00:00Z,5,large",
            '2,/a,llm.used,acme,2026-01-01T12:00:00Z,6,"la,rge"',
            "3,/a,llm.used,acme,2026-01-01T12:00:00Z,7,",
            "4,/a,email.sent,acme,2026-01-01T12:00:00Z,8,large",
        ]
        business.deliver(rows, name="a.csv")
        assert business.ingest().counted == 4
        assert dimensions(business) == [["large", None], ["la,rge", None], [None, None]]
        assert business.events().filter(pl.col("metric") == "tokens")["value"].to_list() == [5, 6, 7]

    def test_flat_files_without_the_columns_have_no_values(self, business: Business) -> None:
        rows = ["id,source,type,subject,time,value", "1,/a,llm.used,acme,2026-01-01T12:00:00Z,5"]
        business.deliver(rows, name="a.csv")
        assert business.ingest().counted == 1
        assert dimensions(business) == [[None, None]]

    def test_parquet_columns_may_have_any_type(self, business: Business) -> None:
        frame = pl.DataFrame({"id": ["1", "2"], "value": [5, 6], "data.model": [4, None], "data.kind": [True, False]})
        texts = {"source": "/a", "type": "llm.used", "subject": "acme", "time": "2026-01-01T12:00:00Z"}
        content = io.BytesIO()
        frame.with_columns(pl.lit(text).alias(name) for name, text in texts.items()).write_parquet(content)
        business.deliver(content.getvalue(), name="a.parquet")
        assert business.ingest().counted == 2
        assert dimensions(business) == [["4", "true"], [None, "false"]]

    def test_a_source_names_the_fields(self, business: Business) -> None:
        entry = """
        sources:
          - name: logs
            files: ["*.log"]
            format: json
            event:
              id: {field: n}
              type: {const: llm.used}
              subject: {field: who}
              time: {field: at}
              data.tokens: {field: tokens}
              data.model: {field: model}
        """
        root = read_yaml("catalogue.yaml", entry.encode(), [])
        assert root is not None
        business.sources = read_sources(root.at("sources"), business.metrics)
        at = "2026-01-01T12:00:00Z"
        records = [
            {"n": 1, "who": "acme", "at": at, "tokens": 5, "model": "large"},
            {"n": 2, "who": "acme", "at": at, "tokens": 6},
            {"n": 3, "who": "acme", "at": at, "tokens": 6, "model": 1.50},
        ]
        business.deliver([json.dumps(record) for record in records], name="a.log")
        assert (business.ingest().counted, business.reasons()) == (3, {})
        assert dimensions(business) == [["large", None], [None, None], ["1.5", None]]

    def test_card_numbers_are_masked(self, business: Business) -> None:
        # A test number of the card brands.
        business.deliver([used(model="4111 1111 1111 1111"), used("2", model="4111")])
        business.ingest()
        assert dimensions(business) == [["**** **** **** 1111", None], ["4111", None]]
        assert not any(b"4111 1111 1111" in path.read_bytes() for path in business.home.lake.rglob("*.parquet"))


class TestIdentity:
    """Rule 26: a dimension is part of an event's content, unless the catalogue reads it only since later."""

    def test_another_value_conflicts(self, business: Business) -> None:
        business.deliver([used(model="a"), used(model="b"), used(model="a")])
        outcome = business.ingest()
        assert (outcome.counted, outcome.duplicates, business.reasons()) == (1, 1, {2: "conflicting"})

    def test_without_dimensions_it_is_a_duplicate(self, business: Business) -> None:
        business.metrics = (*METRICS, PLAIN)
        business.deliver([used(model="a"), used(model="b")])
        assert (business.ingest().duplicates, business.reasons()) == (1, {})

    def test_a_dimension_added_later_makes_no_earlier_pair_conflicting(self, business: Business) -> None:
        business.metrics = (*METRICS, PLAIN)
        business.deliver([used(model="a"), used(model="b")])
        business.ingest()
        business.metrics = (*METRICS, TOKENS)
        assert (business.ingest().duplicates, business.reasons()) == (1, {})
        assert dimensions(business) == [["a", None]]
        # A later delivery of the same event is compared with what is read by then, and leaves the pair alone.
        business.deliver([used(model="b"), used("2", model="b")], day="2026-01-03")
        outcome = business.ingest()
        assert (outcome.counted, outcome.duplicates, business.reasons()) == (2, 1, {1: "conflicting"})

    def test_a_pair_on_two_days_stays_one(self, business: Business) -> None:
        business.metrics = (*METRICS, PLAIN)
        business.deliver([used(model="a")])
        business.deliver([used(model="b")], day="2026-01-03")
        business.ingest()
        business.metrics = (*METRICS, TOKENS)
        assert (business.ingest().duplicates, business.reasons()) == (1, {})

    def test_a_file_that_is_delivered_anew_is_compared_anew(self, business: Business) -> None:
        business.metrics = (*METRICS, PLAIN)
        business.deliver([used(model="a")])
        business.deliver([used(model="b")], day="2026-01-03")
        business.ingest()
        business.metrics = (*METRICS, TOKENS)
        business.deliver([used(model="c")], day="2026-01-03")
        assert (business.ingest().duplicates, business.reasons()) == (0, {1: "conflicting"})

    def test_an_account_that_differs_conflicts_all_the_same(self, business: Business) -> None:
        business.metrics = (*METRICS, PLAIN)
        business.deliver([used(model="a"), line("1", type="llm.used", data={"tokens": 5}, subject="globex")])
        business.ingest()
        business.metrics = (*METRICS, TOKENS)
        assert (business.ingest().duplicates, business.reasons()) == (0, {2: "conflicting"})

    @pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
    def test_the_form_of_the_file_does_not_matter(self, business: Business, name: str) -> None:
        row = "1,/mail,llm.used,acme,2026-01-01T12:00:00Z,5,"
        business.deliver(["id,source,type,subject,time,value,data.kind", row], name="b.csv")
        if name == "a.csv":
            business.deliver(["id,source,type,subject,time,value", row.removesuffix(",")], name=name)
        else:
            business.deliver([used()], name=name)
        assert (business.ingest().duplicates, business.reasons()) == (1, {})


class TestLater:
    """A catalogue that adds dimensions sees them in what was read before."""

    def test_delivered_files_are_parsed_for_them(self, business: Business) -> None:
        business.metrics = (*METRICS, PLAIN)
        business.deliver([used(model="a")])
        business.ingest()
        assert dimensions(business) == [None]
        business.metrics = (*METRICS, TOKENS)
        business.ingest()
        assert dimensions(business) == [["a", None]]

    def test_files_that_vanished_have_no_values(self, business: Business) -> None:
        business.metrics = (*METRICS, PLAIN)
        path = business.deliver([used(model="a")])
        business.ingest()
        path.unlink()
        business.metrics = (*METRICS, TOKENS)
        business.ingest()
        assert dimensions(business) == [[None, None]]

    def test_the_other_order_of_dimensions_is_another_order_of_values(self, business: Business) -> None:
        business.deliver([used(model="a", kind="b")])
        business.ingest()
        business.metrics = (*METRICS, replace(TOKENS, by=(BY[1], BY[0])))
        business.ingest()
        assert dimensions(business) == [["b", "a"]]

    def test_without_dimensions_files_keep_their_parsed_rows(self, business: Business) -> None:
        plain = replace(business, metrics=(*METRICS, PLAIN)).rules().types
        assert parsed_files.types_digest(plain) != parsed_files.types_digest(business.rules().types)
        # Of the catalogues of earlier versions; another digest would have every file read again.
        assert parsed_files.types_digest(replace(business, metrics=METRICS).rules().types) == "ae2b3e09dfe9"
