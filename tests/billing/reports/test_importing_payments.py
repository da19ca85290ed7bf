"""Payments as providers and banks report them: matched, added once, and what is left is listed with why."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from billing.model.errors import RefusedError
from billing.month.business import Business
from billing.reports.importing_payments import Imported, import_payments
from billing.reports.profiles import balances
from tests.billing.month.test_moving_in import catalogue, move_in
from tests.by_steps import bill_by_steps
from tests.landing import Landing, content_of

OPENING = """account_id,currency,amount,on,reference
acme,USD,120.50,2025-12-15,OLD-4711
beta,USD,12.00,2026-01-15,OLD-4712
"""
STRIPE = (
    "balance_transaction_id,created_utc,currency,gross,fee,net,reporting_category,description,customer_email,"
    "customer_name,charge_id,invoice_number,card_brand,payment_metadata[account_id]\n"
)


@pytest.fixture(scope="module")
def billed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """acme INV-2026-000001 138.00, beta ...2 99.00, gamma ...3 99.00 and ...4 99.00."""
    landing = Landing(tmp_path_factory.mktemp("paid") / "home", catalogue=catalogue())
    for name in ("acme", "beta"):
        move_in(landing, name, "2023-05-10", "2026-02-10")
    landing.use("acme", "2026-01-12", emails=27_350)
    move_in(landing, "gamma", "2023-05-11", "2026-02-11")
    (landing.folder / "opening_balances.csv").write_text(OPENING)
    bill_by_steps(landing.root, "2026-02", "2026-02-28")
    bill_by_steps(landing.root, "2026-03", "2026-03-09")
    return landing.root


@pytest.fixture
def home(billed: Path, tmp_path: Path) -> Path:
    """A copy, whose landing folder can be written."""
    shutil.copytree(billed, tmp_path / "home")
    return tmp_path / "home"


def imported(home: Path, content: str, form: str, mapping: str | None = None, name: str = "statement") -> Imported:
    path = home.parent / f"{name}.txt"
    path.write_text(content)
    how = None
    if mapping is not None:
        how = home.parent / "map.yaml"
        how.write_text(mapping)
    return import_payments(home, path, form, how)


def payments(home: Path) -> list[dict[str, Any]]:
    files = sorted((home / "landing" / "payments").glob("*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def documents(home: Path) -> list[tuple[str, ...]]:
    return [(row["account_id"], row.get("document", ""), row["amount"], row["status"]) for row in payments(home)]


def why(found: Imported) -> list[tuple[int, str]]:
    return [(each["row"], each["why"]) for each in found.unmatched]


def test_stripe_balance_report(home: Path) -> None:
    found = imported(
        home,
        STRIPE
        + "txn_1,2026-02-11 10:11:12,usd,138.00,4,134,charge,Payment,a@acme.example.com,,ch_1,INV-2026-000001,visa,\n"
        "txn_2,2026-02-11 10:12:00,usd,99.00,3.17,95.83,charge,Subscription,billing@beta.example.com,,ch_2,,visa,\n"
        "txn_3,2026-02-12 10:12:00,usd,500.00,0,0,charge,Deposit,,,ch_3,,visa,gamma\n"
        "txn_4,2026-02-13 10:12:00,usd,-138.00,0,-138.00,refund,REFUND FOR CHARGE,,,ch_1,,visa,\n"
        "txn_5,2026-02-13 10:12:00,usd,-99.00,15.00,-114.00,dispute,Chargeback,,,ch_2,,visa,\n"
        "txn_6,2026-02-14 10:12:00,usd,-1000.00,0,-1000.00,payout,STRIPE PAYOUT,,,,,,\n"
        "txn_7,2026-02-14 10:12:00,usd,7.00,0,7.00,charge,Unknown,,Nobody Ltd,ch_7,,visa,\n"
        "txn_8,2026-02-14 10:12:00,eur,99.00,0,99.00,charge,Payment,,,ch_8,INV-2026-000002,visa,\n"
        "txn_9,yesterday,usd,99.00,0,99.00,charge,Payment,,,ch_9,,visa,gamma\n",
        "stripe",
    )
    assert documents(home) == [
        ("acme", "INV-2026-000001", "138.00", "succeeded"),
        ("beta", "INV-2026-000002", "99.00", "succeeded"),
        ("gamma", "", "500.00", "succeeded"),
        ("acme", "INV-2026-000001", "138.00", "refunded"),
        ("beta", "INV-2026-000002", "99.00", "disputed"),
    ]
    assert found.matched == {"account and amount": 1, "number": 1, "on account": 1, "payment": 2}
    assert found.ignored == {"payout": 1}
    assert why(found) == [
        (7, "found no number, reference or account in it; from Nobody Ltd"),
        (8, "currency: found EUR, expected USD"),
        (9, "created_utc: found 'yesterday', expected a time such as 2026-02-03 10:11:12"),
    ]
    assert payments(home)[0]["payment_id"] == "stripe/txn_1"
    assert payments(home)[0]["at"] == "2026-02-11T10:11:12+00:00"
    business = Business.load(home, bill_by_steps(home, "2026-02", "2026-02-28").as_of)
    assert business.inputs.rejects.is_empty()
    owed = dict(balances(business).select("account_id", pl.col("outstanding").cast(pl.String)).iter_rows())
    assert owed == {"acme": "258.5000", "beta": "111.0000", "gamma": "-401.0000"}


def test_stripe_balance_history_has_other_names(home: Path) -> None:
    found = imported(
        home,
        "id,Type,Source,Amount,Fee,Net,Currency,Created (UTC),Description,account_id (metadata)\n"
        'txn_1,charge,ch_1,"1,138.00",4.30,133.70,usd,2026-02-11 10:11,Invoice INV-2026-000001,\n'
        "txn_2,adjustment,du_1,-99.00,15.00,-114.00,usd,2026-02-12 10:11,Chargeback withdrawal,gamma\n"
        "txn_3,stripe_fee,,-1.00,0,-1.00,usd,2026-02-12 10:11,Billing,\n",
        "stripe",
    )
    assert documents(home) == [
        ("acme", "INV-2026-000001", "1138.00", "succeeded"),
        ("gamma", "", "99.00", "disputed"),
    ]
    assert found.ignored == {"stripe_fee": 1}


def camt(message: str, statement: str, *entries: str, version: str = "02", number: str = "053") -> str:
    return (
        f'<?xml version="1.0"?><Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.{number}.001.{version}">'
        f"<{message}><GrpHdr/><{statement}>{''.join(entries)}</{statement}></{message}></Document>"
    )


def entry(amount: str, *details: str, way: str = "CRDT", ref: str = "", status: str = "BOOK", more: str = "") -> str:
    return (
        f'<Ntry><Amt Ccy="USD">{amount}</Amt><CdtDbtInd>{way}</CdtDbtInd>{more}<Sts>{status}</Sts>'
        f"<BookgDt><Dt>2026-02-12</Dt></BookgDt>{f'<AcctSvcrRef>{ref}</AcctSvcrRef>' if ref else ''}"
        f"<NtryDtls>{''.join(details)}</NtryDtls></Ntry>"
    )


def details(text: str, payer: str = "", amount: str = "", more: str = "") -> str:
    own = f'<AmtDtls><TxAmt><Amt Ccy="USD">{amount}</Amt></TxAmt></AmtDtls>' if amount else ""
    return (
        f"<TxDtls><Refs><EndToEndId>NOTPROVIDED</EndToEndId></Refs>{own}"
        f"<RltdPties><Dbtr><Nm>{payer}</Nm></Dbtr></RltdPties><RmtInf><Ustrd>{text}</Ustrd></RmtInf>{more}</TxDtls>"
    )


STATEMENT = camt(
    "BkToCstmrStmt",
    "Stmt",
    entry("138.00", details("Rechnung INV 2026 000001 vom 10.2.", "Acme"), ref="A1"),
    entry("12.00", details("OLD-4712 thank you", "Somebody"), ref="A2"),
    entry("198.00", details("a", "Gamma Inc.", "99.00"), details("b", "GAMMA INC", "99.00"), ref="A3"),
    entry("5.00", details("tip", "Beta Inc."), ref="A4"),
    entry("99.00", details("INV-2026-000002"), ref="A5", status="PDNG"),
    entry("99.00", details("INV-2026-000002", more="<RtrInf/>"), way="DBIT", ref="A6"),
    entry("40.00", details("rent"), way="DBIT", ref="A7"),
    entry("77.00", details("INV-2026-000001 and INV-2026-000002"), ref="A8"),
)


def test_a_bank_statement(home: Path) -> None:
    found = imported(home, STATEMENT, "camt053")
    assert documents(home) == [
        ("acme", "INV-2026-000001", "138.00", "succeeded"),
        ("beta", "OLD-4712", "12.00", "succeeded"),
        ("gamma", "INV-2026-000003", "99.00", "succeeded"),
        ("beta", "INV-2026-000002", "99.00", "disputed"),
    ]
    assert found.ignored == {"not booked (PDNG)": 1, "outgoing": 1}
    nothing = "found no number, reference or account in it"
    assert why(found) == [
        (4, f"{nothing}, and account gamma owes no document of this amount; from GAMMA INC"),
        (5, f"{nothing}, and account beta owes no document of this amount; from Beta Inc."),
        (9, "it names documents of several accounts"),
    ]
    assert [row["payment_id"] for row in payments(home)] == ["camt/A1", "camt/A2", "camt/A3/1", "camt/A6"]
    assert payments(home)[0]["at"] == "2026-02-12T12:00:00+00:00"


def test_a_second_import_adds_nothing_and_a_notification_of_the_same_is_known(home: Path) -> None:
    first = imported(home, STATEMENT, "camt053")
    before = content_of(home)
    again = imported(home, STATEMENT, "camt053", name="again")
    assert (again.file, again.known, sum(again.matched.values())) == (None, 4, 0)
    assert [each["row"] for each in again.unmatched] == [each["row"] for each in first.unmatched]
    bare = '<Ntry><Amt Ccy="USD">138.00</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts>'
    bare += "<BookgDt><Dt>2026-02-12</Dt></BookgDt><AcctSvcrRef>A1</AcctSvcrRef></Ntry>"
    assert imported(home, camt("BkToCstmrStmt", "Stmt", bare), "camt053", name="bare").known == 1
    same = entry("138.00", details("Rechnung INV 2026 000001 vom 10.2.", "Acme"), ref="A1")
    notified = camt("BkToCstmrDbtCdtNtfctn", "Ntfctn", same, version="08", number="054")
    assert (imported(home, notified, "camt054").file, content_of(home)) == (None, before)


def test_structured_remittance_of_a_later_version_of_the_message(home: Path) -> None:
    structured = "<RmtInf><Strd><RfrdDocInf><Nb>INV-2026-000002</Nb></RfrdDocInf></Strd></RmtInf>"
    payer = "<RltdPties><Dbtr><Pty><Nm>Somebody</Nm></Pty></Dbtr></RltdPties>"
    own = f'<TxDtls><Amt Ccy="USD">99.00</Amt>{payer}{structured}</TxDtls>'
    booked = entry("99.00", own, ref="B1").replace("<Sts>BOOK</Sts>", "<Sts><Cd>BOOK</Cd></Sts>")
    imported(home, camt("BkToCstmrStmt", "Stmt", booked, version="08"), "camt053")
    assert documents(home) == [("beta", "INV-2026-000002", "99.00", "succeeded")]


def test_movements_without_an_id_of_the_bank_are_told_apart_by_their_content(home: Path) -> None:
    twins = [entry("50.00", details("INV-2026-000001"))] * 2
    content = camt("BkToCstmrStmt", "Stmt", *twins)
    assert sum(imported(home, content, "camt053").matched.values()) == 2
    assert len({row["payment_id"] for row in payments(home)}) == 2
    more = camt("BkToCstmrStmt", "Stmt", entry("51.00", details("INV-2026-000001")), *twins)
    assert (imported(home, more, "camt053", name="more").known, len(payments(home))) == (2, 3)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("<Document/>", r"expected a camt.053 message: Document with BkToCstmrStmt"),
        ("no xml", "found what is no XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><Document>&b;</Document>', "found a document type"),
        (camt("BkToCstmrDbtCdtNtfctn", "Ntfctn"), "found BkToCstmrDbtCdtNtfctn, expected"),
    ],
)
def test_what_is_no_statement_is_refused(home: Path, content: str, problem: str) -> None:
    before = content_of(home)
    with pytest.raises(RefusedError, match=problem):
        imported(home, content, "camt053")
    assert content_of(home) == before


def test_a_csv_with_the_columns_of_payments(home: Path) -> None:
    found = imported(
        home,
        "payment_id,account_id,document,at,amount,currency,status,reference\n"
        "p1,acme,OLD-4711,2026-02-12,120.50,USD,,\n"
        "p2,beta,,2026-02-12T09:00:00Z,99.00,USD,failed,\n"
        "p3,beta,INV-2026-000001,2026-02-12,1.00,USD,,\n"
        "p4,beta,,2026-02-12,twelve,USD,,\n"
        "p5,beta,,2026-02-12,-99.00,USD,succeeded,\n",
        "csv",
    )
    assert documents(home) == [
        ("acme", "OLD-4711", "120.50", "succeeded"),
        ("beta", "INV-2026-000002", "99.00", "failed"),
    ]
    assert why(found) == [
        (3, "it is of account beta and names a document of account acme"),
        (4, "amount: found 'twelve', expected an amount such as 99.00"),
        (5, "amount: found '-99.00', expected an amount above 0: the status is succeeded"),
    ]


MAPPING = """
id: Vorgang
at: Datum
at_format: "%d.%m.%Y"
zone: Europe/Berlin
amount: Betrag
decimal: ","
thousands: "."
separator: ";"
encoding: cp1252
text: Zweck
payer: Auftraggeber
status: Art
statuses: {Zahlung: succeeded, Erstattung: refunded}
const: {currency: USD}
"""


def test_the_id_of_a_customer_in_the_text_counts_with_the_exact_amount(home: Path) -> None:
    rows = ("a,99.00,customer gamma february", "b,98.00,customer gamma", "c,99.00,gamma or beta", "d,99.00,gamma again")
    lines = [f"{row.split(',')[0]},2026-02-12,{row.split(',', 1)[1]}" for row in rows]
    found = imported(home, "\n".join(["payment_id,at,amount,text", *lines]), "csv", MAP_OF_USD)
    assert documents(home) == [("gamma", "INV-2026-000003", "99.00", "succeeded")]
    assert [row for row, _ in why(found)] == [2, 3, 4]


MAP_OF_USD = "{id: payment_id, at: at, amount: amount, text: text, const: {currency: USD}}"


def test_any_csv_with_a_mapping(home: Path) -> None:
    path = home.parent / "bank.csv"
    rows = (
        "Vorgang;Datum;Betrag;Zweck;Auftraggeber;Art",
        "1;12.02.2026;1.138,00;Re. inv-2026-000001;Müller;Zahlung",
        "2;12.02.2026;-1,00;INV-2026-000001;;Erstattung",
    )
    path.write_bytes("\n".join(rows).encode("cp1252"))
    mapping = home.parent / "map.yaml"
    mapping.write_text(MAPPING)
    import_payments(home, path, "csv", mapping)
    assert documents(home) == [
        ("acme", "INV-2026-000001", "1138.00", "succeeded"),
        ("acme", "INV-2026-000001", "1.00", "refunded"),
    ]
    assert payments(home)[0]["at"] == "2026-02-12T12:00:00+01:00"


@pytest.mark.parametrize(
    ("mapping", "problem"),
    [
        ("at: Date", "amount"),
        ("{at: Date, amount: Amount, colour: Red}", "colour"),
        ("{at: Date, amount: Amount, statuses: {ok: paid}}", "statuses.ok"),
        ("{at: Date, amount: Amount, separator: ';;'}", "one character"),
        ("- a", "no mapping"),
    ],
)
def test_a_mapping_that_is_wrong_is_refused(home: Path, mapping: str, problem: str) -> None:
    with pytest.raises(RefusedError, match=problem):
        imported(home, "Date,Amount\n", "csv", mapping)


@pytest.mark.parametrize(
    ("content", "form", "problem"),
    [
        ("a,b\n1,2\n", "stripe", "balance_transaction_id or id is missing"),
        ("payment_id,amount\n1,2\n", "csv", "expected at among them"),
        ("", "csv", "found an empty file"),
    ],
)
def test_a_file_without_its_columns_is_refused(home: Path, content: str, form: str, problem: str) -> None:
    with pytest.raises(RefusedError, match=problem):
        imported(home, content, form)


def test_a_number_of_digits_alone_needs_the_amount_beside_it(tmp_path: Path) -> None:
    text = f'{catalogue()}\nnumbering: {{invoice: "{{sequence}}", first: {{invoice: 2026}}}}\n'
    landing = Landing(tmp_path / "home", catalogue=text)
    move_in(landing, "acme", "2023-05-10", "2026-02-10")
    bill_by_steps(landing.root, "2026-02", "2026-02-28")
    rows = ("a,2026-02-12,50.00,USD,paid in 2026", "b,2026-02-12,99.00,USD,no 2026")
    found = imported(landing.root, "\n".join(["payment_id,at,amount,currency,text", *rows]), "csv")
    assert documents(landing.root) == [("acme", "2026", "99.00", "succeeded")]
    assert [row for row, _ in why(found)] == [1]


def test_a_card_number_is_written_nowhere(home: Path) -> None:
    found = imported(
        home,
        "payment_id,account_id,at,amount,currency,reference,text\n"
        "p1,acme,2026-02-12,1.00,USD,4111 1111 1111 1111,\n"
        "p2,acme,2026-02-12,1.00,USD,,card 4111111111111111\n",
        "csv",
    )
    assert [row for row, _ in why(found)] == [1]
    assert "4111" not in json.dumps([found.unmatched, payments(home)])
