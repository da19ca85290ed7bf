"""`overage remind` and `overage statement`, on a home that was billed."""

import csv
import io
import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from assets import clock
from billing.month.business import Business
from billing.reports.profiles import balances
from billing.reports.reminders import reminder_file
from billing.reports.statements import statement
from billing.reports.verify import disagreements
from billing.sample import write_sample, write_sample_payments
from tests.by_steps import bill_by_steps
from tests.landing import Landing, keep_few_deliveries
from tests.mail_servers import Scripted
from tests.pipeline.outside import one, overage, show
from tests.sizes import sized

LEVELS = 'policy:\n  reminders: [{days: 7}, {days: 21, fee: "5.00"}, {days: 35, final: true}]\n'


@pytest.fixture(scope="module")
def billed(tmp_path_factory: pytest.TempPathFactory) -> Landing:
    landing = Landing(tmp_path_factory.mktemp("billed") / "home")
    catalogue = landing.folder / "catalogue.yaml"
    catalogue.write_text(catalogue.read_text().replace("policy:\n", LEVELS, 1))
    landing.customer("Alpha")
    landing.customer("beta")
    bill_by_steps(landing.root, "2026-01", "2026-01-10")
    landing.pay("beta", "INV-2026-000002", "99.00", "2026-01-12T10:00:00Z")
    return landing


@pytest.fixture
def landing(billed: Landing, tmp_path: Path) -> Landing:
    return billed.copied(tmp_path / "home")


def remind(landing: Landing, day: str, *arguments: str) -> str:
    found = overage("remind", "--as-of", day, "--home", landing.root, *arguments)
    assert found.status == 0, found.messages
    return found.messages + found.output


def test_each_level_is_sent_once_with_its_fee(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    with Scripted() as server:
        monkeypatch.setenv("OVERAGE_SMTP_URL", server.url)
        assert "0 reminders made" in remind(landing, "2026-01-16")
        assert "Alpha" in remind(landing, "2026-01-17", "--dry-run") and not server.mails
        assert "1 reminder made, 1 mail sent" in remind(landing, "2026-01-17")
        assert "0 reminders made, 0 mails sent" in remind(landing, "2026-01-18")
        assert "1 reminder made, 1 mail sent" in remind(landing, "2026-02-05")
        assert "0 reminders made" in remind(landing, "2026-02-06")
    assert [mail["Subject"].split(" from ")[0] for mail in server.mails] == ["Payment reminder", "Overdue notice"]
    first, second = show(landing.root, "reminders")
    assert (first["level"], first["amount"], first["fee"], first["status"]) == (1, "99.00", "0.00", "sent")
    assert (second["level"], second["fee"], second["documents"]) == (2, "5.00", ["INV-2026-000001"])
    business = Business.load(landing.root, date(2026, 2, 6))
    fee = business.register.reminder_fees().row(0, named=True)
    assert (fee["account_id"], fee["amount"], fee["currency"]) == ("Alpha", Decimal("5.0000"), "USD")
    file = reminder_file(business.home, "Alpha", date.fromisoformat(second["on"]))
    assert file.read_bytes().startswith(b"%PDF")
    assert second["file"] == file.relative_to(landing.root).as_posix()
    assert [it.get_filename() for it in server.mails[1].iter_attachments()] == [file.name]
    assert not [it for it in disagreements(business) if "reminders" in it]


def test_a_reminder_that_failed_is_tried_again_unless_it_was_paid(
    landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = clock.now()
    with Scripted() as server:
        monkeypatch.setenv("OVERAGE_SMTP_URL", server.url)
        server.on_recipient = lambda _: "450 later"
        found = overage("remind", "--as-of", "2026-01-17", "--home", landing.root)
        assert found.status == 1 and "450 later" in found.messages
        server.on_recipient = lambda _: None
        remind(landing, "2026-01-17")
        assert not server.mails
        monkeypatch.setattr(clock, "now", lambda: start.replace(year=start.year + 1))
        landing.pay("Alpha", "INV-2026-000001", "99.00", "2026-01-18T10:00:00Z")
        remind(landing, "2026-01-19")
        assert not server.mails
        remind(landing, "2026-01-17")
        assert len(server.mails) == 1
    assert one(show(landing.root, "reminders"))["attempts"] == 2


def test_without_reminders_in_the_policy_nothing_is_done(landing: Landing) -> None:
    catalogue = landing.folder / "catalogue.yaml"
    catalogue.write_text(catalogue.read_text().replace(LEVELS, "policy:\n"))
    assert "nobody is reminded" in remind(landing, "2026-03-01")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sample of two months, with payments of the first."""
    home = tmp_path_factory.mktemp("sample") / "home"
    summary = write_sample(home, accounts=10, months=2, events_per_account_day=1, seed=3)
    keep_few_deliveries(home, 10)
    business = bill_by_steps(home, summary.bill_month, str(summary.bill_as_of))
    write_sample_payments(home, business.register.documents())
    return home


def test_the_closing_balance_of_every_account_is_its_balance(sample: Path) -> None:
    business = Business.load(sample, date(2027, 1, 1))
    rows = balances(business).select("account_id", "outstanding").rows()
    assert len(rows) > 5
    for account, outstanding in rows[:: sized(usual=3, long=1)]:
        found = statement(business, account, None, business.as_of)
        assert Decimal(found["closing"]) == outstanding, account
        assert sum(map(Decimal, found["aging"].values())) == max(outstanding, Decimal(0))
        # Cut anywhere, the parts meet.
        if found["movements"]:
            middle = found["movements"][len(found["movements"]) // 2]["date"]
            later = statement(business, account, date.fromisoformat(middle), business.as_of)
            assert later["closing"] == found["closing"]
            assert Decimal(later["opening"]) + sum(Decimal(it["amount"]) for it in later["movements"]) == outstanding


def test_a_statement_in_every_form(sample: Path, tmp_path: Path) -> None:
    account = show(sample, "documents")[0]["account_id"]
    as_json = overage("statement", account, "--format", "json", "--home", sample)
    found = json.loads(as_json.output)
    as_csv = overage("statement", account, "--format", "csv", "--home", sample)
    assert len(list(csv.DictReader(io.StringIO(as_csv.output)))) == len(found["movements"]) > 0
    table = overage("statement", account, "--format", "table", "--home", sample)
    assert found["closing"] in table.messages
    pdf = tmp_path / "statement.pdf"
    assert overage("statement", account, "--out", pdf, "--home", sample).status == 0
    assert pdf.read_bytes().startswith(b"%PDF")
    assert overage("statement", "nobody", "--home", sample).status == 2
    assert overage("statement", account, "--from", "2030-01-01", "--to", "2029-01-01", "--home", sample).status == 2
