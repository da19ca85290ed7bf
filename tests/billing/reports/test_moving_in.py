"""`move-in` writes new files only, checks them first, and shows the first drafts."""

from datetime import date
from pathlib import Path

import pytest

from billing.model.errors import RefusedError
from billing.reports.moving_in import MovedIn, move_in
from tests.billing.month.test_moving_in import catalogue
from tests.by_steps import bill_by_steps, rows
from tests.landing import Landing, content_of

HEADER = "account_id,name,country,package,term,started_on,billed_through,held_on,cancelled_on,balance,reference"


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    landing = Landing(tmp_path / "home", catalogue=catalogue())
    landing.account("native")
    return landing


def table(landing: Landing, *rows: str, header: str = HEADER, name: str = "old.csv") -> Path:
    path = landing.root.parent / name
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def moved(landing: Landing, *rows: str, as_of: date = date(2026, 2, 1)) -> MovedIn:
    return move_in(landing.root, table(landing, *rows), as_of)


ACME = "acme,Acme Inc.,US,starter,monthly,2023-05-10,2026-02-10,,,120.50,OLD-1"


def test_it_writes_new_files_and_drafts_what_follows(landing: Landing) -> None:
    landing.use("acme", "2026-01-12", emails=27_350)
    before = content_of(landing.root)
    found = moved(
        landing,
        ACME,
        "yearly,Yearly Inc.,US,starter,yearly,2025-09-15,2026-02-15,,,,",
        "held,Held Inc.,US,silver,monthly,2024-01-31,2026-02-01,2026-01-05,,-5.00,",
        "left,Left Inc.,US,silver,monthly,2024-01-31,2026-02-01,,2025-12-01,77.00,OLD-2",
        "owes,Owes Inc.,US,,,,,,,10.00,OLD-3",
    )
    after = content_of(landing.root)
    assert {name: after[name] for name in before} == before, "nothing that was there has changed"
    assert sorted({name.split("/")[1] for name in set(after) - set(before)}) == [
        "accounts",
        "opening_balances",
        "requests",
    ]
    assert found.counts == {"accounts": 5, "requests": 6, "opening_balances": 4}
    drafted = [(row["account_id"], row["billing_date"], row["net"]) for row in found.drafts]
    assert drafted == [("acme", "2026-02-10", "138.00")]
    assert [line["amount"] for line in found.drafts[0]["lines"]] == ["99.00", "39.00"]
    assert {each["account_id"]: each["why"] for each in found.without_draft} == {
        "yearly": "nothing is due on its first billing date here, 2026-02-15, or that is months away",
        "held": "on hold since 2026-01-05",
        "left": "cancelled on 2025-12-01",
        "owes": "it has no subscription",
    }


def test_a_second_move_of_the_same_table_is_refused(landing: Landing) -> None:
    moved(landing, ACME)
    before = content_of(landing.root)
    with pytest.raises(RefusedError, match="account_id: found 'acme', expected a new account"):
        moved(landing, ACME)
    assert content_of(landing.root) == before


def test_a_move_that_was_killed_is_completed(landing: Landing) -> None:
    files = moved(landing, ACME).files
    whole = content_of(landing.root)
    (landing.folder / files[-1]).unlink()
    assert files[-1].startswith("accounts/"), "the accounts make the others count, and come last"
    assert moved(landing, ACME).files == files
    assert content_of(landing.root) == whole


def test_what_a_killed_move_left_is_named_where_another_table_contradicts_it(landing: Landing) -> None:
    files = moved(landing, ACME).files
    (landing.folder / files[-1]).unlink()
    before = content_of(landing.root)
    with pytest.raises(RefusedError) as refused:
        moved(landing, ACME.replace("120.50", "7.00"))
    assert content_of(landing.root) == before
    told = str(refused.value)
    assert "reference: found 'OLD-1' of this account again with other content" in told
    assert all(f"{name}: left by a move that was interrupted" in told for name in files[:-1])
    assert "run that move with its table again, or remove what it left" in told


def test_a_subscription_that_starts_later_is_told(landing: Landing) -> None:
    found = moved(landing, "soon,Soon Inc.,US,starter,monthly,2026-02-20,,,,,")
    assert found.without_draft == [
        {"account_id": "soon", "why": "its subscription starts later, at 2026-02-20T12:00:00Z"}
    ]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("native,N,US,,,,,,,,", "account_id: found 'native', expected a new account"),
        (",N,US,,,,,,,,", "account_id: found nothing, expected a value"),
        ("a,N,US,bronze,,2023-05-10,2026-02-10,,,,", "package: found 'bronze', expected one of: starter, silver"),
        ("a,N,US,starter,weekly,2023-05-10,2026-02-10,,,,", "term: found 'weekly', expected one of: monthly, yearly"),
        ("a,N,US,starter,,10.05.2023,2026-02-10,,,,", "started_on: found '10.05.2023', expected a date"),
        ("a,N,US,starter,,,2026-02-10,,,,", "started_on: found nothing, expected the day on which"),
        ("a,N,US,starter,,2023-05-10,,,,,", "billed_through: found nothing, expected the day up to which a was billed"),
        (
            "a,N,US,starter,,2023-05-10,2026-01-10,,,,",
            "account a: request move-in/a/subscribe subscribes to starter on",
        ),
        ("a,N,US,,,2023-05-10,2026-02-10,,,,", "started_on: found '2023-05-10' without a package"),
        ("a,N,US,starter,,2023-05-10,2026-02-10,2020-01-01,,,", "expected a day not after held_on and cancelled_on"),
        ("a,N,US,,,,,,,12 USD,", "balance: found '12 USD', expected an amount such as 120.50"),
        ("a,N,US,,,,,,,12.505,X", "account a: amount: found '12.505', expected an amount in USD of at most 2 decimals"),
        ("a,4111 1111 1111 1111,US,,,,,,,1,X", "found what is a card number, expected none"),
        ("a,N,US,,,,,,,1", "found a row that cannot be read, expected one field a column"),
        ("acme,N,US,,,,,,,,", "account_id: found 'acme', expected a row for each account"),
        (f"a,{'N' * 501},US,,,,,,,,", "account a: name: found 501 characters, expected at most 500"),
    ],
)
def test_where_a_row_is_wrong_nothing_is_written(landing: Landing, row: str, problem: str) -> None:
    before = content_of(landing.root)
    with pytest.raises(RefusedError) as refused:
        moved(landing, ACME, row)
    assert problem in str(refused.value)
    assert "4111" not in str(refused.value)
    assert content_of(landing.root) == before


def test_a_misspelt_column_is_refused(landing: Landing) -> None:
    path = table(landing, "acme,1.00", header="account_id,balanse")
    with pytest.raises(RefusedError, match="found the column 'balanse', which is not read, expected 'balance'"):
        move_in(landing.root, path, date(2026, 2, 1))


def test_the_table_may_be_json_and_keeps_further_columns(landing: Landing) -> None:
    path = landing.root.parent / "old.jsonl"
    path.write_text('{"account_id": "acme", "name": "Acme, Inc.", "package": "starter", "started_on": "2026-02-03"}\n')
    found = move_in(landing.root, path, date(2026, 2, 3))
    assert [(row["billing_date"], row["net"]) for row in found.drafts] == [("2026-02-03", "99.00")]
    path = table(landing, "beta,Gold", header="account_id,colour", name="more.csv")
    (written,) = move_in(landing.root, path, date(2026, 2, 3)).files
    assert "Gold" in (landing.folder / written).read_text()


OFFERS = "coupon,add_ons,credits,credits_expire_on"


def test_what_is_held_beside_the_package_moves_in(tmp_path: Path) -> None:
    offers = "\n".join(
        [
            "coupons:",
            '  - {name: spring, percent: "10", documents: 3}',
            "add_ons:",
            "  - name: more_emails",
            "    versions:",
            '      - {effective_from: 2026-01-01, price: {monthly: "30.00"}, allowances: {emails: 10000}}',
        ]
    )
    landing = Landing(tmp_path / "home", catalogue=f"{catalogue()}\n{offers}\n")
    landing.account("native")
    landing.use("acme", "2026-01-12", emails=27_350)
    held = 'spring,"{""more_emails"": 1}",50.00,2027-01-01'
    plain = "plain,Plain Inc.,US,starter,monthly,2023-05-10,2026-02-10,,,,,,,,"
    path = table(landing, f"{ACME},{held}", plain, header=f"{HEADER},{OFFERS}")
    found = move_in(landing.root, path, date(2026, 2, 1))
    assert found.counts == {"accounts": 2, "requests": 2, "opening_balances": 1, "credit_grants": 1}
    first = found.drafts[0]
    # 27,350 emails are over the 25,000 of package and add-on by three blocks.
    assert [(line["kind"], line["amount"]) for line in first["lines"]] == [
        ("package_fee", "99.00"),
        ("add_on", "30.00"),
        ("overage", "9.00"),
        ("coupon", "-9.90"),
        ("coupon", "-3.00"),
        ("coupon", "-0.90"),
    ]
    business = bill_by_steps(landing.root, "2026-02", "2026-02-28")
    assert rows(business, "documents", "total", "credits_applied", "due", account_id="acme") == [
        ("124.20", "50.00", "74.20")
    ]


@pytest.mark.parametrize(
    ("held", "problem"),
    [
        ("winter,,,", "coupon: found 'winter', expected"),
        (',"{""dedicated_ip"": 1}",,', "add_ons: found"),
        (",more_emails,,", "add_ons: found 'more_emails', expected add-ons of the catalogue"),
        (",,-5.00,", "credits: found '-5.00', expected an amount such as 50.00"),
        (",,5.00,1.1.27", "credits_expire_on: found '1.1.27', expected a date"),
    ],
)
def test_what_is_held_and_not_known_here_is_refused(landing: Landing, held: str, problem: str) -> None:
    before = content_of(landing.root)
    with pytest.raises(RefusedError) as refused:
        move_in(landing.root, table(landing, f"{ACME},{held}", header=f"{HEADER},{OFFERS}"), date(2026, 2, 1))
    assert problem in str(refused.value)
    assert content_of(landing.root) == before
