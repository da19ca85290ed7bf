"""The synthetic business: the same on every machine, and dirty in exactly the way it says."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
import yaml
from stdnum.de import vat as german_vat
from stdnum.fr import tva as french_vat
from stdnum.gb import vat as british_vat

from billing.inputs.catalogue_file import load_catalogue
from billing.inputs.reading import read_inputs
from billing.model.errors import RefusedError
from billing.month.business import Business
from billing.sample import DIRT_PER_MILLION, SampleSummary, billing_hint, write_sample
from billing.sample.payments import payments_of
from billing.starter import StarterError, write_starter_home
from billing.store.home import Home
from tests import sizes
from tests.sizes import sized

DELIVERED = {"id": pl.String, "source": pl.String, "type": pl.String, "subject": pl.String, "time": pl.String}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> SampleSummary:
    return write_sample(tmp_path_factory.mktemp("sample"), accounts=120, months=2, events_per_account_day=12)


@pytest.fixture(scope="module")
def rows(sample: SampleSummary) -> pl.DataFrame:
    """Every delivered row: the text columns, value, delivery day, and the JSON text where there is one."""
    return pl.concat([_read(path) for path in _files(sample)]).with_columns(
        at=pl.col("time").str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_zone="UTC", strict=False)
    )


def _files(sample: SampleSummary) -> Iterator[Path]:
    return iter(sorted(path for path in (sample.directory / "landing" / "usage").rglob("*") if path.is_file()))


def _read(path: Path) -> pl.DataFrame:
    if path.suffix == ".parquet":
        frame = pl.read_parquet(path).with_columns(
            pl.col("time").dt.to_string("%Y-%m-%dT%H:%M:%S%.3fZ"), line=pl.lit(None, dtype=pl.String)
        )
    elif ".csv" in path.suffixes:
        frame = pl.read_csv(path, schema={**DELIVERED, "value": pl.Int64}).with_columns(
            line=pl.lit(None, dtype=pl.String)
        )
    else:
        lines = pl.scan_lines(path, name="line").collect()
        member = '"(?:count|bytes|delta)":"?(-?[0-9]+)'
        frame = lines.with_columns(
            *(pl.col("line").str.extract(f'"{name}":"([^"]*)"').alias(name) for name in DELIVERED),
            value=pl.col("line").str.extract(member).cast(pl.Int64),
        )
    return frame.select(*DELIVERED, "value", "line", delivered=pl.lit(path.parent.name).str.to_date())


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _digest_in_another_process(folder: Path, accounts: int, threads: int, hash_seed: int) -> str:
    program = (
        "import sys; from pathlib import Path; from billing.sample import write_sample\n"
        f"write_sample(Path(sys.argv[1]), accounts={accounts}, months=2, events_per_account_day=12)"
    )
    environment = os.environ | {"POLARS_MAX_THREADS": str(threads), "PYTHONHASHSEED": str(hash_seed)}
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True, env=environment)
    return _digest(folder)


def test_equal_arguments_give_equal_bytes_in_other_processes_and_at_other_thread_counts(
    sample: SampleSummary, tmp_path: Path
) -> None:
    if sizes.LONG:
        here = _digest(sample.directory)
        assert _digest_in_another_process(tmp_path / "one", 120, threads=1, hash_seed=1) == here
        assert _digest_in_another_process(tmp_path / "four", 120, threads=4, hash_seed=2) == here
    else:
        here = _digest(write_sample(tmp_path / "here", accounts=12, months=2, events_per_account_day=12).directory)
        assert _digest_in_another_process(tmp_path / "four", 12, threads=4, hash_seed=2) == here


def test_another_seed_is_another_business(tmp_path: Path) -> None:
    first = write_sample(tmp_path / "first", accounts=5, months=1, seed=1)
    second = write_sample(tmp_path / "second", accounts=5, months=1, seed=2)
    assert _digest(first.directory) != _digest(second.directory)


def test_every_kind_of_file_is_delivered_and_every_row_is_announced(sample: SampleSummary, rows: pl.DataFrame) -> None:
    kinds = Counter("".join(path.suffixes) for path in _files(sample))
    assert set(kinds) == {".jsonl", ".jsonl.gz", ".jsonl.zst", ".csv", ".csv.gz", ".parquet"}
    assert kinds[".jsonl.gz"] > sample.files / 2
    assert (sum(kinds.values()), rows.height) == (sample.files, sample.rows)


def test_the_summary_counts_every_kind_of_dirt(sample: SampleSummary, rows: pl.DataFrame) -> None:
    assert list(sample.dirt) == list(DIRT_PER_MILLION)
    complete = rows.drop_nulls(["id", "type", "subject", "at", "value"])
    days_late = pl.col("delivered") - pl.col("at").dt.date()
    json_text = pl.col("line")
    assert sample.dirt["malformed"] == rows.filter(~json_text.str.ends_with("}")).height
    assert (
        sample.dirt["missing_field"] == rows.filter(pl.col("subject").is_null() & pl.col("time").is_not_null()).height
    )
    assert sample.dirt["time_without_zone"] == rows.filter(pl.col("time").is_not_null() & pl.col("at").is_null()).height
    assert (
        sample.dirt["negative_counter"]
        == complete.filter((pl.col("value") < 0) & pl.col("type").is_in(["email.sent", "bandwidth.served"])).height
    )
    assert sample.dirt["unknown_account"] == rows.filter(pl.col("subject").str.starts_with("no-such")).height
    assert sample.dirt["unknown_type"] == rows.filter(pl.col("type") == "page.viewed").height
    assert sample.dirt["future_dated"] == complete.filter(days_late < pl.duration(days=-1)).height
    assert sample.dirt["too_old"] == complete.filter(days_late > pl.duration(days=90)).height
    assert sample.dirt["card_number"] == rows.filter(json_text.str.contains("4111 1111 1111 1111", literal=True)).height
    assert sample.dirt["number_as_string"] == rows.filter(json_text.str.contains('":"[0-9]+"}}$')).height
    assert sample.dirt["members_reordered"] == rows.filter(json_text.str.starts_with('{"data"')).height
    assert min(sample.dirt.values()) > 0


def test_repeated_contradicting_and_late_rows_are_what_the_summary_says(
    sample: SampleSummary, rows: pl.DataFrame
) -> None:
    # By text, so that a bare time is compared too; the file formats write one instant in different ways.
    readable = rows.drop_nulls(["id", "at"]).with_columns(
        first_value=pl.col("value").first().over("source", "id"),
        first_delivery=pl.col("delivered").min().over("source", "id"),
        number=pl.int_range(pl.len()).over("source", "id"),
    )
    again = readable.filter(pl.col("number") > 0)
    same = again.filter(pl.col("value") == pl.col("first_value"))
    same_day = pl.col("delivered") == pl.col("first_delivery")
    assert same.filter(same_day).height == sample.dirt["duplicate_same_day"]
    assert same.filter(~same_day).height == sample.dirt["duplicate_later_day"]
    assert again.height - same.height == sample.dirt["conflicting_duplicate"]
    late = pl.col("delivered") - pl.col("at").dt.date()
    first_late = readable.filter(
        (pl.col("number") == 0) & (late >= pl.duration(days=2)) & (late <= pl.duration(days=90))
    )
    assert first_late.height == sample.dirt["late"]


def test_rows_add_up(sample: SampleSummary) -> None:
    repeated = sample.duplicates + sample.dirt["conflicting_duplicate"]
    assert sample.rows == sample.events + repeated
    assert sample.counted == sample.events - (sample.rejected - sample.dirt["conflicting_duplicate"])


def test_usage_spans_the_months_and_a_few_late_days(sample: SampleSummary, rows: pl.DataFrame) -> None:
    assert (sample.first_day, sample.last_day) == (date(2026, 1, 1), date(2026, 2, 28))
    assert rows.get_column("delivered").min() == date(2026, 1, 1)
    assert rows.get_column("delivered").max() == sample.last_delivery_day
    assert date(2026, 3, 1) <= sample.last_delivery_day <= date(2026, 3, 5)


def test_usage_is_heavy_tailed_and_as_much_as_asked_for(sample: SampleSummary, rows: pl.DataFrame) -> None:
    per_account = rows.group_by("subject").len().get_column("len").sort(descending=True)
    busiest_tenth = int(per_account.head(sample.accounts // 10).sum())
    assert busiest_tenth > sample.rows * 0.25
    # Not everybody is there from the first day on.
    assert 0.6 < sample.events / (120 * 59 * 12) < 1.1


def test_leads_outgrow_some_packages(sample: SampleSummary, rows: pl.DataFrame) -> None:
    catalogue = yaml.safe_load((sample.directory / "landing" / "catalogue.yaml").read_text())
    limits = {package["name"]: package["versions"][0]["allowances"]["leads"] for package in catalogue["packages"]}
    bought = pl.DataFrame(
        [row for row in _requests(sample) if row["kind"] == "subscribe"], schema=["account_id", "package"]
    )
    levels = rows.filter(pl.col("type") == "leads.changed").group_by("subject").agg(pl.col("value").sum())
    over = levels.join(bought, left_on="subject", right_on="account_id").filter(
        pl.col("value") > pl.col("package").replace_strict(limits, return_dtype=pl.Int64)
    )
    assert 5 <= over.height < sample.accounts / 2


def _requests(sample: SampleSummary) -> list[dict[str, str]]:
    text = (sample.directory / "landing" / "requests.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_every_account_subscribes_once_inside_the_span_and_some_at_a_months_end(sample: SampleSummary) -> None:
    requests = _requests(sample)
    starts = [row["at"] for row in requests if row["kind"] == "subscribe"]
    accounts = [row["account_id"] for row in requests if row["kind"] == "subscribe"]
    assert len(set(accounts)) == len(accounts) == sample.accounts
    assert [row["at"] for row in requests] == sorted(row["at"] for row in requests)
    assert all("2026-01-01" <= start < "2026-03-01" for start in starts)
    assert {"2026-01-29", "2026-01-30", "2026-01-31"} <= {start[:10] for start in starts}
    assert len(requests) == sample.requests


def test_every_account_request_and_tax_rate_is_valid(sample: SampleSummary) -> None:
    home = Home(sample.directory)
    inputs = read_inputs(home, load_catalogue(home.landing / "catalogue.yaml"))
    assert (inputs.accounts.height, inputs.requests.height) == (sample.accounts, sample.requests)
    assert inputs.rejects.is_empty()
    assert inputs.warnings == ()


def test_customers_ask_for_everything_one_can_ask_for(tmp_path: Path) -> None:
    accounts = sized(usual=250, long=600)
    sample = write_sample(tmp_path, accounts=accounts, months=3, events_per_account_day=Decimal("0.01"))
    kinds = {row["kind"] for row in _requests(sample)}
    assert kinds == {
        *("subscribe", "upgrade", "downgrade", "cancel", "hold", "resume", "refund"),
        *("change_card", "transfer", "split_payment", "redeem", "add"),
    }


def test_some_customers_have_seats_and_tokens_and_prepaid_credits(sample_billed_for_europe: Business) -> None:
    business = sample_billed_for_europe
    tokens = sorted((business.home.landing / "usage").glob("*/*tokens*"))
    texts = [gzip.decompress(path.read_bytes()).decode() for path in tokens]
    events = [json.loads(line) for text in texts for line in text.splitlines()]
    kinds = Counter(event["type"] for event in events)
    assert set(kinds) == {"users.changed", "tokens.used"}
    assert len({event["id"] for event in events}) == len(events)
    told = {(each["data"]["model"], each["data"]["kind"]) for each in events if each["type"] == "tokens.used"}
    assert told == {(model, kind) for model in ("small", "large") for kind in ("input", "output", "cached")}
    lines = business.register.lines()
    assert {"seats", "proration", "minimum_spend", "prepayment"} <= set(lines["kind"])
    assert {None, "model=large", "model=large,kind=output"} == set(lines.filter(pl.col("metric") == "tokens")["rule"])
    assert (business.register.documents()["credits_applied"] > 0).any()


def test_a_sample_may_be_without_seats_and_tokens(tmp_path: Path) -> None:
    sample = write_sample(tmp_path, accounts=20, months=1, events_per_account_day=1, seats_and_tokens=False)
    assert not [path for path in _files(sample) if "tokens" in path.name]
    catalogue = load_catalogue(sample.directory / "landing" / "catalogue.yaml")
    assert [metric.name for metric in catalogue.metrics] == ["leads", "custom_domains", "emails", "bandwidth"]


def test_customers_live_in_several_countries_and_their_tax_ids_are_valid(sample: SampleSummary) -> None:
    accounts = pl.read_csv(sample.directory / "landing" / "accounts.csv", infer_schema=False)
    assert accounts.height == sample.accounts
    checks = {"DE": german_vat.is_valid, "FR": french_vat.is_valid, "GB": british_vat.is_valid}
    with_id = accounts.drop_nulls("tax_id").select("country", "tax_id").rows()
    assert {country for country, _ in with_id} == set(checks)
    assert all(checks[country](tax_id) for country, tax_id in with_id)
    assert {"US", "NL", "CH"} <= set(accounts.get_column("country"))
    assert accounts.get_column("email").str.ends_with(".example.com").all()
    assert set(accounts.get_column("tax_exempt")) == {"true", "false"}


def test_the_hint_names_the_last_month_of_usage_and_the_month_that_closes_it(sample: SampleSummary) -> None:
    assert (sample.bill_month, sample.bill_as_of) == ("2026-02", date(2026, 2, 28))
    assert (sample.closing_month, sample.closing_as_of) == ("2026-03", date(2026, 3, 31))
    assert billing_hint(3, "2026-11") == ("2027-01", date(2027, 1, 31))


def test_prices_are_in_force_from_the_first_month_on_whenever_that_is(tmp_path: Path) -> None:
    write_sample(tmp_path, accounts=3, months=1, first_month="2019-11")
    catalogue = yaml.safe_load((tmp_path / "landing" / "catalogue.yaml").read_text())
    starts = {version["effective_from"] for package in catalogue["packages"] for version in package["versions"]}
    assert starts == {catalogue["policy"]["billing_start"]} == {date(2019, 11, 1)}


def test_progress_is_told_after_each_delivery_day(tmp_path: Path) -> None:
    told: list[tuple[date, int]] = []
    summary = write_sample(tmp_path, accounts=3, months=1, progress=lambda day, rows: told.append((day, rows)))
    assert [day for day, _ in told][:2] == [date(2026, 1, 1), date(2026, 1, 2)]
    assert told[-1][1] == summary.rows


@pytest.mark.parametrize("write", [write_starter_home, write_sample])
def test_a_landing_area_that_is_there_is_never_overwritten(write: object, tmp_path: Path) -> None:
    (tmp_path / "landing").mkdir()
    (tmp_path / "landing" / "accounts.csv").write_text("ours")
    assert callable(write)
    with pytest.raises(StarterError, match="already there"):
        write(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["landing", "accounts.csv"]


def test_an_interrupted_sample_leaves_no_landing_area(tmp_path: Path) -> None:
    def stop(day: date, rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path, accounts=3, months=1, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("accounts", "months", "events", "first_month"),
    [(0, 1, 1, "2026-01"), (1, 0, 1, "2026-01"), (1, 1, 0, "2026-01"), (1, 1, 1, "2026-13"), (1, 1, 1, "May")],
)
def test_arguments_out_of_range_are_refused_before_anything_is_written(
    accounts: int, months: int, events: int, first_month: str, tmp_path: Path
) -> None:
    with pytest.raises(RefusedError, match="expected"):
        write_sample(tmp_path, accounts=accounts, months=months, events_per_account_day=events, first_month=first_month)
    assert list(tmp_path.iterdir()) == []


def issued(count: int) -> pl.DataFrame:
    """Invoices of 99.00 each, and credit notes that give some of them back; prepaid credits pay 9.00 of each third."""
    numbers = [f"INV-2026-{number:06d}" for number in range(1, count + 1)]
    invoices = pl.DataFrame({"number": numbers, "kind": "invoice", "total": "99.00"}).with_columns(
        corrects=pl.lit(None, pl.String), account_id=pl.col("number")
    )
    notes = invoices.head(20).with_columns(
        number=pl.col("number").str.replace("INV", "CN"),
        kind=pl.lit("credit_note"),
        total=pl.lit("-40.00"),
        corrects="number",
    )
    third = (pl.col("kind") == "invoice") & (pl.col("number").str.slice(-6).cast(pl.Int64) % 3 == 0)
    return pl.concat([invoices, notes]).with_columns(
        pl.col("total").cast(pl.Decimal(18, 4)),
        due=pl.when(third).then(pl.lit("90.00")).otherwise("total").cast(pl.Decimal(18, 4)),
        issued_on=pl.lit(date(2026, 1, 31)),
        currency=pl.lit("USD"),
    )


def test_what_was_issued_is_paid_fails_is_refunded_and_disputed() -> None:
    rows = [json.loads(line) for line in payments_of(issued(300))]
    statuses = Counter(row["status"] for row in rows)
    assert statuses["disputed"] == 1
    assert statuses["succeeded"] > 200
    assert 10 < statuses["failed"] < 60
    assert 5 < statuses["refunded"] <= 20
    assert len({row["document"] for row in rows}) < 300, "of some nothing is heard"
    assert len({row["payment_id"] for row in rows}) == len(rows)
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
    assert {row["amount"] for row in rows if row["status"] == "refunded"} == {"40.00"}
    paid = Counter(row["document"] for row in rows if row["status"] == "succeeded")
    assert set(paid.values()) == {1}
    amounts = {(int(row["document"][-6:]) % 3 == 0, row["amount"]) for row in rows if row["status"] != "refunded"}
    assert amounts == {(True, "90.00"), (False, "99.00")}


def test_a_document_that_credits_pay_is_not_paid_again_nor_refunded() -> None:
    covered = issued(60).with_columns(due=pl.lit(0).cast(pl.Decimal(18, 4)))
    assert payments_of(covered).is_empty()


def test_payments_are_the_same_again_when_more_is_issued() -> None:
    before, after = payments_of(issued(100)), payments_of(issued(150))
    assert set(before.to_list()) <= set(after.to_list())
    assert before.to_list() == payments_of(issued(100)).to_list()
    assert before.to_list() != payments_of(issued(100), seed=2).to_list()
    assert payments_of(issued(300).clear()).is_empty()
