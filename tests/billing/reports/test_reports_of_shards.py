"""What is written of all accounts, the journal and the month report: of shards the same as in one piece."""

import shutil
from collections.abc import Callable
from dataclasses import fields
from typing import NamedTuple

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from billing.model.account_tables import JOURNAL
from billing.month.business import Business
from billing.register import schema as stored
from billing.register.rows import insert_rows
from billing.reports.accounts import ACCOUNT_TABLES, write_accounts
from billing.reports.journal import receivable_differences, trial_balance, write_journal
from billing.reports.month_figures import Figures
from billing.reports.month_report import month_report
from billing.reports.profiles import NextBills
from billing.reports.show import read_table
from billing.store.monthly import read_month
from tests.by_steps import bill_by_steps
from tests.several_currencies import january_in_shards
from tests.sold_business import sold_landing


class Both(NamedTuple):
    """A business billed in one piece and in two shards."""

    whole: Business
    shards: Business
    month: str


def _sold(factory: pytest.TempPathFactory) -> Both:
    folder = factory.mktemp("both")
    sold_landing(folder / "whole")
    shutil.copytree(folder / "whole", folder / "shards")
    counts = {"whole": 1, "shards": 2}
    whole, shards = (bill_by_steps(folder / name, "2026-02", "2026-02-28", shards=counts[name]) for name in counts)
    return Both(whole, shards, "2026-02")


def _several_currencies(factory: pytest.TempPathFactory) -> Both:
    return Both(*january_in_shards(factory), "2026-01")


@pytest.fixture(scope="module", params=[_sold, _several_currencies], ids=["whatever is sold", "several currencies"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    make: Callable[[pytest.TempPathFactory], Both] = request.param
    return make(tmp_path_factory)


def test_tables_and_pages_of_all_accounts(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, shards, _ = both
    whole.register.draw_profile_tokens(whole.inputs.accounts["account_id"])
    with shards.register.writable.begin() as connection:
        insert_rows(connection, stored.profile_links, whole.register.profile_links())
    written = [write_accounts(business) for business in (whole, shards)]
    accounts = whole.inputs.accounts.height
    assert written == [(accounts + 1, accounts)] * 2
    for table in ACCOUNT_TABLES:
        assert_frame_equal(read_table(shards, name=table.name), read_table(whole, name=table.name))
    pages = [
        {path.relative_to(business.home.profiles): path.read_bytes() for path in business.home.profiles.rglob("*.html")}
        for business in (whole, shards)
    ]
    assert pages[0] == pages[1] and len(pages[0]) == 2 * accounts + 1
    # Nothing has changed since, however many accounts are looked at together.
    monkeypatch.setattr(NextBills.in_batches, "__defaults__", (2,))
    assert [write_accounts(business) for business in (whole, shards)] == [(0, 0)] * 2


def test_journal(both: Both) -> None:
    whole, shards, month = both
    months = write_journal(whole)
    assert write_journal(shards) == months and months[-1] == month
    for each in months:
        assert [len(business.home.parts(JOURNAL, each)) for business in (whole, shards)] == [1, 2]
        rows = [read_month(business.home, JOURNAL, each) for business in (whole, shards)]
        assert rows[0].height
        assert_frame_equal(*rows)
    assert trial_balance(whole).equals(trial_balance(shards))
    for business in (whole, shards):
        assert receivable_differences(business).is_empty()
        assert write_journal(business) == []


def test_a_journal_month_that_is_written_again_has_no_part_of_other_shards(both: Both) -> None:
    whole, shards, month = both
    write_journal(shards)
    (shards.home.month_folder(JOURNAL, month) / "built_from.json").unlink()
    again = shards.at(shards.as_of, shards=3)
    assert write_journal(again) == [month]
    assert len(shards.home.parts(JOURNAL, month)) == 3
    write_journal(whole)
    assert trial_balance(whole).equals(trial_balance(again))
    assert receivable_differences(again).is_empty()


def test_month_report(both: Both) -> None:
    of_whole, of_shards = (vars(month_report(business, both.month)) for business in (both.whole, both.shards))
    for found in (of_whole, of_shards):
        found.update(
            {f"{code} {name}": each for code, of in found.pop("others").items() for name, each in vars(of).items()}
        )
    assert of_whole.keys() == of_shards.keys()
    for name, one in of_whole.items():
        if isinstance(one, pl.DataFrame):
            assert_frame_equal(of_shards[name], one)
        else:
            assert of_shards[name] == one, name
    assert any(" " in name for name in of_whole) == (len(both.whole.currencies.codes) > 1)
    assert {each.name for each in fields(Figures)} <= of_whole.keys()
    assert all(of_whole[name].height for name in ("by_package", "causes", "movements", "receivables", "decisions"))
