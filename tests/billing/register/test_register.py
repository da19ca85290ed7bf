"""The register keeps what was issued: the database itself refuses what would change it (rule 19).

Every test that can be is run on SQLite and on a real PostgreSQL server.
"""

import gc
import multiprocessing
import re
import sqlite3
import weakref
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from polars.testing import assert_frame_equal

from billing.model.buckets import bucket_of, bucket_ranges
from billing.model.codes import DocumentKind, MailKind, MailOutcome
from billing.model.columns import Table
from billing.model.errors import InterruptedRunError, RefusedError
from billing.model.numbering import USUAL, NumberFormat, Numbering
from billing.model.tables import DECISIONS, DRAFT_LINES, DRAFT_TAXES, DRAFTS, PACKAGES
from billing.register import migrations as register_migrations
from billing.register.issued_documents import IssuedRows
from billing.register.migrations.versions.r0004_recorded_facts import KEPT
from billing.register.register import Issue, IssuedPart, Register, issued_rows
from billing.register.schema import REVISION, documents, metadata, numberings
from billing.register.sent_mails import Attempt, MadeReminder
from billing.rules.opening_balances import OPENING_POSTINGS
from billing.rules.package_changes import CLOSED_SCHEMA
from billing.store.home import Home
from docs import register_tables
from tests.postgresql import Server, register_rows
from tests.sizes import sized

FEBRUARY = date(2026, 2, 10)
AT = datetime(2026, 2, 10, 12, tzinfo=UTC)
ATTEMPT = Attempt("INV-2026-000001", 1, MailKind.DOCUMENT, "acme", "acme@example.com", "<1@example.com>", AT)
REMINDER = MadeReminder(
    "acme/2026-03-01",
    "acme",
    date(2026, 3, 1),
    1,
    "INV-2026-000001",
    '["INV-2026-000001"]',
    "USD",
    1_178_100,
    "{}",
    50_000,
)

OF_MAILS = {
    "mail_attempts": "recipient",
    "mail_outcomes": "outcome",
    "reminders": "content",
    "reminder_fees": "currency",
    "mails_to_send": "number",
}


def redrawn(number: str, sha256: str) -> pl.DataFrame:
    """A PDF that another library drew again."""
    row = {"number": number, "redrawn_sha256": sha256, "sha256": "0", "bytes": 2, "drawn_with": "weasyprint 71.0"}
    return pl.DataFrame(row).with_columns(redrawn_on=pl.lit(date(2026, 3, 1)))


def filled(table: Table, **columns: object) -> pl.DataFrame:
    """A row of a table; what is not given is null."""
    values = {name: [columns.get(name)] for name in table.column_names}
    return table.conform(pl.DataFrame(values))


OF_CREDITS = {
    "credits_applied": "17.81",
    "credits": [{"grant_id": "g1", "amount": Decimal("17.81"), "gives_back": None}],
}


def draft(account: str) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """A draft with one fee line of 99.00 and 19 % tax, 18.81."""
    keys = {
        "account_id": account,
        "subscription_id": f"{account}/2026-01-10",
        "billing_month": "2026-02",
        "billing_date": FEBRUARY,
    }
    return (
        filled(
            DRAFTS,
            **keys,
            kind="invoice",
            currency="USD",
            net="99.00",
            tax="18.81",
            total="117.81",
            **(OF_CREDITS if account == "acme" else {}),
            content='{"number":null,"issued_on":null}',
            content_hash="unknown",
        ),
        filled(
            DRAFT_LINES,
            **keys,
            line=1,
            kind="package_fee",
            due_on=FEBRUARY,
            due_kind="package_fee",
            amount="99.00",
            description="Starter, monthly fee",
        ),
        filled(
            DRAFT_TAXES,
            **keys,
            name="VAT",
            country="DE",
            rate="0.19",
            taxable="99.00",
            amount="18.81",
            reason="charged",
        ),
    )


def issue(register: Register, *accounts: str, as_of: date = FEBRUARY, numbering: Numbering | None = None) -> IssuedRows:
    """Issue a document to each account, and close their billing date."""
    drafts, lines, taxes = (pl.concat(frames) for frames in zip(*(draft(account) for account in accounts), strict=True))
    packages = pl.concat(
        filled(PACKAGES, account_id=account, subscription_id=f"{account}/2026-01-10", billing_date=FEBRUARY)
        for account in accounts
    )
    decisions = pl.concat(
        filled(DECISIONS, decision_id=f"{account}-1", billing_month="2026-02", flags=[], evidence=[])
        for account in accounts
    )
    closing_dates = packages.select("account_id", *CLOSED_SCHEMA)
    part = IssuedPart(DRAFTS.conform(drafts).lazy(), lines.lazy(), taxes.lazy(), closing_dates.lazy(), decisions)
    (given,) = register.issue(
        Issue("2026-02", as_of, as_of, [part], register.state(), numbering=numbering or Numbering(), are_sent=True)
    )
    return issued_rows(part, given, as_of)


def opening_balance(amount: str, version: int = 1) -> pl.DataFrame:
    row = {"account_id": "acme", "currency": "USD", "reference": "OLD-1", "version": version, "amount": Decimal(amount)}
    return pl.DataFrame([{**row, "on": FEBRUARY, "posted_on": FEBRUARY}], schema=OPENING_POSTINGS)


@contextmanager
def filled_register(root: Path, url: str | None) -> Iterator[Register]:
    opened = Register.open(Home(root), url)
    issue(opened, "acme", "beta")
    opened.record_files([{"number": "INV-2026-000001", "sha256": "0", "bytes": 1}])
    opened.record_invoice_files([{"number": "INV-2026-000001", "sha256": "0", "bytes": 1}])
    opened.keep_settings({"time_zone": "UTC"})
    opened.record_redrawn_files(redrawn("INV-2026-000001", "1"))
    opened.record_opening_balances(opening_balance("12.50"))
    opened.draw_profile_tokens(["acme"])
    yield opened
    opened.close()


@contextmanager
def database_of(register: Register, root: Path, url: str | None) -> Iterator[sa.Engine]:
    engine = sa.create_engine(url or f"sqlite:///{root / 'register.db'}")
    with engine.begin() as connection:
        row = {"format": "C{sequence}", "prefix": "C", "suffix": "", "width": 1, "first": 7}
        connection.execute(sa.insert(numberings).values(series="CN", year=2026, **row))
    register.begin_attempt(ATTEMPT)
    register.end_attempt(ATTEMPT, MailOutcome.SENT, AT)
    register.record_reminder(REMINDER)
    yield engine
    engine.dispose()


@pytest.fixture
def register(tmp_path: Path, register_url: str | None) -> Iterator[Register]:
    with filled_register(tmp_path, register_url) as opened:
        yield opened


@pytest.fixture
def database(register: Register, tmp_path: Path, register_url: str | None) -> Iterator[sa.Engine]:
    """The register as someone with a database client has it."""
    with database_of(register, tmp_path, register_url) as engine:
        yield engine


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def unchanged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.Engine]:
    """One for all tests that try in vain to change it."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgresql").new_database()
    root = tmp_path_factory.mktemp("unchanged")
    with filled_register(root, url) as register, database_of(register, root, url) as engine:
        yield engine


def test_a_guard_that_was_taken_away_is_missed(register: Register, database: sa.Engine) -> None:
    assert register.missing_guards() == []
    with database.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("DROP TRIGGER lines_stay")
        else:
            connection.exec_driver_sql("ALTER TABLE lines DISABLE TRIGGER lines_stay")
    assert register.missing_guards() == ["lines_stay"]


def by_hand(
    number: str = "INV-2026-000003", sequence: int = 3, issued_on: date = FEBRUARY, net: int = 0, credits: int = 0
) -> str:
    """A statement that adds a document without lines."""
    return (
        f"INSERT INTO documents SELECT '{number}', series, year, {sequence}, kind, false, account_id, subscription_id,"  # noqa: S608
        f" billing_month, billing_date, '{issued_on}', currency, {net}, 0, {net}, corrects, content, content_hash,"
        f" bucket, due_on, {credits}"
        " FROM documents WHERE sequence = 1"
    )


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE documents SET total = 1, net = 1 WHERE number = 'INV-2026-000001'", "never changes"),
        ("DELETE FROM documents", "documents: what has been issued stays"),
        ("UPDATE lines SET amount = 0", "lines: what has been issued never changes"),
        ("DELETE FROM lines", "lines: what has been issued stays"),
        ("UPDATE taxes SET amount = 0", "taxes: what has been issued never changes"),
        ("DELETE FROM taxes", "taxes: what has been issued stays"),
        ("UPDATE credit_uses SET amount = 0", "credit_uses: what has been recorded stays"),
        ("DELETE FROM credit_uses", "credit_uses: what has been recorded stays"),
        ("UPDATE closed_dates SET closing_package = 'gold'", "closed_dates: what has been issued never changes"),
        ("DELETE FROM closed_dates", "closed_dates: what has been issued stays"),
        ("UPDATE closed_decisions SET decision = ''", "closed_decisions: what has been issued never changes"),
        ("DELETE FROM closed_decisions", "closed_decisions: what has been issued stays"),
        ("UPDATE files SET sha256 = '1'", "files: what has been issued never changes"),
        ("DELETE FROM files", "files: what has been issued stays"),
        ("UPDATE redrawn_files SET sha256 = '1'", "what has been"),
        ("DELETE FROM redrawn_files", "stay"),
        ("UPDATE invoice_files SET sha256 = '1'", "what has been"),
        ("DELETE FROM invoice_files", "stay"),
        ("UPDATE opening_balances SET amount = 1", "opening_balances: what has been recorded never changes"),
        ("DELETE FROM opening_balances", "opening_balances: what has been recorded stays"),
        ("UPDATE numberings SET prefix = 'D'", "numberings: what has been recorded never changes"),
        ("DELETE FROM numberings", "numberings: what has been recorded stays"),
        *(
            (statement, "what has been")
            for table, column in OF_MAILS.items()
            for statement in (f"UPDATE {table} SET {column} = 'x'", f"DELETE FROM {table}")  # noqa: S608
        ),
        ("UPDATE profile_links SET token = ''", "what has been"),
        ("DELETE FROM profile_links", "what has been"),
        ("DELETE FROM issued_months", "issued_months: a day that was closed stays closed"),
        ("UPDATE settings SET value = 'Asia/Tokyo'", "the settings under which something was issued stay"),
        ("DELETE FROM settings", "the settings under which something was issued stay"),
        ("UPDATE issued_months SET closed_through = '2026-02-01'", "a day that was closed stays closed"),
        (by_hand("INV-2026-000004", 4), "the next number of its series was expected"),
        (by_hand("INV-2026-3"), "its number is not that of its series, year and sequence"),
        (by_hand(issued_on=date(2026, 2, 9)), "a later day has documents already"),
        (by_hand(net=990_000), "its lines do not add up to it"),
        (
            "INSERT INTO lines SELECT number, 2, kind, due_on, due_kind, metric, package, cycle_start, cycle_end,"
            " quantity, allowance, excess, billed_units, unit_price, amount, description, gives_back,"
            " due_item, rule, add_on, charge_id, coupon, applies_to_line, tax_category FROM lines",
            "lines: its document has been issued",
        ),
        (
            "INSERT INTO taxes SELECT number, 2, name, country, region, rate, taxable, amount, reason, taxed_as,"
            " category, exemption_reason, exemption_code FROM taxes",
            "taxes: its document has been issued",
        ),
        (
            "INSERT INTO credit_uses SELECT number, 2, grant_id, amount, gives_back FROM credit_uses",
            "credit_uses: its document has been issued",
        ),
        (by_hand(credits=1), "its credits do not add up to it"),
    ],
)
def test_the_database_refuses_to_change_what_was_issued(unchanged: sa.Engine, statement: str, said: str) -> None:
    before = register_rows(unchanged.url.render_as_string(False))
    filled = [rows for name, rows in before.items() if name not in KEPT]
    assert all(filled), "every table has rows that could be harmed"
    with pytest.raises(sa.exc.IntegrityError, match=said), unchanged.begin() as connection:
        connection.exec_driver_sql(statement)
    assert register_rows(unchanged.url.render_as_string(False)) == before


def test_the_server_refuses_to_empty_a_table(postgresql: Server, tmp_path: Path) -> None:
    url = postgresql.new_database()
    with closing(Register.open(Home(tmp_path), url)) as register:
        issue(register, "acme")
    engine = sa.create_engine(url)
    for table in metadata.sorted_tables:
        with pytest.raises(sa.exc.IntegrityError, match="stays"), engine.begin() as connection:
            connection.exec_driver_sql(f"TRUNCATE {table.name} CASCADE")
    engine.dispose()


def test_numbers_go_on_where_they_stopped_and_a_month_closes_further(register: Register) -> None:
    later = issue(register, "gamma", as_of=date(2026, 2, 12))
    assert later.documents["number"].to_list() == ["INV-2026-000003"]
    assert register.closed_through("2026-02") == date(2026, 2, 12)


def test_what_grants_paid_is_recorded_with_the_document(register: Register) -> None:
    assert register.credit_uses().select("number", "position", "grant_id", "amount", "account_id").rows() == [
        ("INV-2026-000001", 1, "g1", Decimal("17.81"), "acme")
    ]
    assert register.documents()["due"].to_list() == [Decimal(100), Decimal("117.81")]


def test_what_was_issued_is_read_back_exactly(register: Register) -> None:
    assert register.documents()["total"].cast(pl.String).to_list() == ["117.8100", "117.8100"]
    amounts = register.issued_amounts(FEBRUARY, date(2026, 2, 11))
    assert amounts["issued"].cast(pl.String).to_list() == ["99.0000", "99.0000"]
    assert_frame_equal(register.issued_amounts(FEBRUARY, date(2026, 2, 11), ["beta"]), amounts.tail(1))
    assert register.issued_amounts(FEBRUARY, date(2026, 2, 11), []).schema == amounts.schema
    sums = register.issued_sums(FEBRUARY, date(2026, 2, 11)).sort("account_id")
    assert sums.select("account_id", "kind", "issued").rows() == [
        ("acme", "package_fee", 990_000),
        ("beta", "package_fee", 990_000),
    ]
    assert (register.first_closed_date(), register.latest_issued_on()) == (FEBRUARY, FEBRUARY)
    assert register.closed_decision_ids().to_list() == ["acme-1", "beta-1"]


def test_a_month_that_is_issued_and_read_in_pieces_is_whole(
    register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billing.register.rows._ROWS_PER_STATEMENT", 2)
    for module in ("connection", "issued_documents", "register"):
        monkeypatch.setattr(f"billing.register.{module}._BULK", 3)
    said = issue(register, "c", "d", "e", "f", "g")
    numbers = [f"INV-2026-{number:06}" for number in range(1, 8)]
    assert register.documents()["number"].to_list() == numbers
    assert register.lines()["number"].to_list() == numbers
    assert [content for _, content in register.contents(numbers)] == [
        f'{{"number":"{number}","issued_on":"2026-02-10"}}' for number in numbers
    ]
    # what the lake is told of them is what the register holds
    held = register.rows("2026-02")
    assert_frame_equal(said.documents, held.documents.tail(5))
    assert_frame_equal(said.lines, held.lines.tail(5))
    assert_frame_equal(said.taxes, held.taxes.tail(5))


def test_what_rows_share_and_what_they_do_not_is_kept_alike(
    register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billing.register.rows._ROWS_PER_STATEMENT", 2)
    issue(register, "c", "d", "e")
    files = [("INV-2026-000002", "a", 2), ("INV-2026-000003", "b", 2), ("INV-2026-000004", "c", 2)]
    register.record_files([dict(zip(("number", "sha256", "bytes"), file, strict=True)) for file in files])
    assert register.files().rows() == [("INV-2026-000001", "0", 1), *files]


def test_rows_that_are_the_same_are_refused_and_not_left_out(register: Register) -> None:
    file = {"number": "INV-2026-000002", "sha256": "0", "bytes": 1}
    with pytest.raises(sa.exc.IntegrityError):
        register.record_files([file, file])
    assert register.files()["number"].to_list() == ["INV-2026-000001"]


def test_text_sorts_by_its_code_points_wherever_the_register_is(register: Register) -> None:
    issue(register, "Zeta", "alpha", "Álvaro", "a-b", "aa")
    expected = sorted(f"{name}/2026-01-10" for name in ("Zeta", "alpha", "Álvaro", "a-b", "aa", "acme", "beta"))
    assert register.closed_dates()["subscription_id"].to_list() == expected


def test_nothing_is_issued_where_the_register_has_moved_since_the_drafts_were_made(register: Register) -> None:
    seen = register.state()
    drafts, lines, taxes = draft("gamma")
    stale = Issue(
        "2026-02",
        FEBRUARY,
        FEBRUARY,
        [
            IssuedPart(
                drafts.lazy(),
                lines.lazy(),
                taxes.lazy(),
                PACKAGES.empty().select("account_id", *CLOSED_SCHEMA).lazy(),
                DECISIONS.empty(),
            )
        ],
        seen,
    )
    issue(register, "delta")
    with pytest.raises(InterruptedRunError, match="the register has moved since these drafts were made"):
        register.issue(stale)
    assert register.count() == 3


def test_nothing_is_issued_with_a_day_before_that_of_the_last_document(register: Register) -> None:
    with pytest.raises(RefusedError, match="expected an as-of day of 2026-02-10 or later"):
        issue(register, "gamma", as_of=date(2026, 2, 9))


def test_an_account_is_never_billed_twice_for_a_billing_date(register: Register) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        issue(register, "acme")
    assert register.count() == 2


def issue_many(root: Path, url: str | None, name: str) -> int:
    """In a process of its own: issue ten documents, one by one, however often others come first."""
    again = 0
    with closing(Register.open(Home(root), url)) as register:
        for turn in range(10):
            while True:
                try:
                    issue(register, f"{name}-{turn}")
                    break
                except InterruptedRunError:
                    again += 1
    return again


AT_ONCE = sized(2, 4)


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """Others at work at the same time."""
    with ProcessPoolExecutor(AT_ONCE, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def test_processes_that_issue_at_once_leave_no_gap_and_no_double(
    register: Register, register_url: str | None, processes: ProcessPoolExecutor, tmp_path: Path
) -> None:
    names = ["one", "two", "three", "four"][:AT_ONCE]
    list(processes.map(issue_many, [tmp_path] * len(names), [register_url] * len(names), names, timeout=120))
    issued = 2 + 10 * len(names)
    assert register.count() == issued
    assert register.number_gaps() == []
    assert register.documents()["number"].to_list() == [f"INV-2026-{number:06}" for number in range(1, issued + 1)]
    assert register.documents()["account_id"].n_unique() == issued


def test_a_process_that_is_killed_while_it_issues_leaves_nothing_and_no_lock(
    register: Register, register_url: str | None, tmp_path: Path
) -> None:
    killed = multiprocessing.get_context("spawn").Process(target=die_while_issuing, args=(tmp_path, register_url))
    killed.start()
    killed.join(60)
    assert killed.exitcode == -9
    assert register.count() == 2
    with register.alone(patience=30):
        assert issue(register, "gamma").documents["number"].to_list() == ["INV-2026-000003"]


def die_while_issuing(root: Path, url: str | None) -> None:
    import os
    import signal

    register = Register.open(Home(root), url)

    @sa.event.listens_for(sa.Engine, "before_cursor_execute")
    def on_statement(_: object, __: object, statement: str, *___: object) -> None:
        if statement.startswith("INSERT INTO closed_dates"):
            os.kill(os.getpid(), signal.SIGKILL)

    with register.alone():
        issue(register, "gamma")


def test_looking_at_a_register_that_is_not_there_makes_none(tmp_path: Path) -> None:
    register = Register.open(Home(tmp_path))
    assert (register.count(), register.documents().height, register.latest_issued_on()) == (0, 0, None)
    register.record_files([])
    assert list(tmp_path.iterdir()) == []
    # once something is issued, the same register says so
    issue(register, "acme")
    assert register.count() == 1
    register.close()


def test_a_copy_issues_on_its_own(register: Register, tmp_path: Path) -> None:
    copy = register.copied_to(tmp_path / "copy.db")
    assert copy.documents().equals(register.documents())
    issue(copy, "gamma")
    assert (copy.count(), register.count()) == (3, 2)
    copy.close()


# --- migrations -----------------------------------------------------------------------------------------------------


def test_every_reference_is_found_by_an_index(database: sa.Engine) -> None:
    # a document that is inserted is looked for in all of them: read one by one, issuing would take squared time
    for table in metadata.sorted_tables:
        inspector = sa.inspect(database)
        leading = {index["column_names"][0] for index in inspector.get_indexes(table.name)}
        leading |= set(inspector.get_pk_constraint(table.name)["constrained_columns"][:1])
        for reference in inspector.get_foreign_keys(table.name):
            assert set(reference["constrained_columns"]) <= leading, table.name


def test_a_new_register_has_the_tables_that_the_steps_make(tmp_path: Path) -> None:
    assert register_tables.FILE.read_text() == register_tables.script()
    made = []
    for name, make in (("at once", register_migrations.migrate), ("by steps", register_migrations.migrate_by_steps)):
        engine = sa.create_engine(f"sqlite:///{tmp_path / name}")
        make(engine)
        with engine.connect() as connection:
            found = [
                connection.exec_driver_sql(query).fetchall()
                for query in (
                    "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY rowid",
                    "SELECT * FROM alembic_version",
                )
            ]
        made.append([list(map(tuple, rows)) for rows in found])
        engine.dispose()
    assert made[0] == made[1]
    assert len(made[0][0]) > 40


def test_the_migrations_make_the_tables_that_the_program_knows(database: sa.Engine) -> None:
    with database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == REVISION
    scripts = ScriptDirectory(str(Path(register_migrations.__file__).parent))
    assert scripts.get_current_head() == REVISION


def test_settings_are_recorded_anew_until_a_billing_date_is_closed(tmp_path: Path) -> None:
    with closing(Register.open(Home(tmp_path))) as register:
        for zone in ("UTC", "Asia/Tokyo"):
            register.keep_settings({"time_zone": zone})
            assert register.settings() == {"time_zone": zone}


def test_settings_under_which_a_billing_date_was_closed_stay(register: Register) -> None:
    register.keep_settings({"time_zone": "Asia/Tokyo", "policy.billing_anchor": "signup_day"})
    assert register.settings() == {"time_zone": "UTC", "policy.billing_anchor": "signup_day"}


def test_a_register_of_the_first_version_is_taken_over_with_all_it_holds(tmp_path: Path) -> None:
    with closing(Register.open(Home(tmp_path))) as register:
        issue(register, "acme", "beta")
    path = tmp_path / "register.db"
    with closing(sqlite3.connect(path)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("DROP TABLE alembic_version")
        connection.execute("DROP INDEX ix_documents_issued_on")
        for table in (
            *KEPT,
            *OF_MAILS,
            "invoice_files",
            "redrawn_files",
            "opening_balances",
            "numberings",
            "profile_links",
            "credit_uses",
        ):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("ALTER TABLE lines DROP COLUMN gives_back")
        for column in ("taxed_as", "category", "exemption_reason", "exemption_code"):
            connection.execute(f"ALTER TABLE taxes DROP COLUMN {column}")
        for column in ("due_on", "credits_applied"):
            connection.execute(f"ALTER TABLE documents DROP COLUMN {column}")
        connection.execute("DROP INDEX lines_with_items")
        for column in ("due_item", "rule", "add_on", "charge_id", "coupon", "applies_to_line", "tax_category"):
            connection.execute(f"ALTER TABLE lines DROP COLUMN {column}")
        for table in ("documents", "closed_dates"):
            connection.execute(f"ALTER TABLE {table} DROP COLUMN bucket")
        # foreign keys were not deferred then
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, ' DEFERRABLE INITIALLY DEFERRED', '')")
        connection.commit()
    engine = sa.create_engine(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        before = [connection.execute("SELECT number, line, amount, description FROM lines").fetchall()]
    with closing(Register.open(Home(tmp_path))) as register:
        found = register_rows(engine.url.render_as_string(False))
        assert [len(found["lines"])] == [len(rows) for rows in before]
        with closing(sqlite3.connect(path)) as connection:
            for table in ("documents", "closed_dates"):
                buckets = connection.execute(f"SELECT account_id, bucket FROM {table}").fetchall()  # noqa: S608
                assert buckets == [(account, bucket_of(account)) for account, _ in buckets] != []
        assert found["documents"] and found["closed_dates"]
        assert issue(register, "gamma").documents["number"].to_list() == ["INV-2026-000003"]
    with pytest.raises(sa.exc.IntegrityError, match="stays"), engine.begin() as connection_of_today:
        connection_of_today.execute(sa.delete(documents))
    with pytest.raises(sa.exc.IntegrityError, match="never changes"), engine.begin() as connection_of_today:
        connection_of_today.execute(sa.update(documents).values(bucket=0))
    engine.dispose()


def test_numbers_go_on_in_a_format_of_their_own(tmp_path: Path, register_url: str | None) -> None:
    texts = {DocumentKind.INVOICE: "{year}/R.{sequence:03}", DocumentKind.CREDIT_NOTE: "C{sequence}"}
    formats = {kind: NumberFormat(texts.get(kind, usual)) for kind, usual in USUAL.items()}
    numbering = Numbering(formats, {DocumentKind.INVOICE: 999})
    with closing(Register.open(Home(tmp_path), register_url)) as register:
        assert issue(register, "acme", "beta", numbering=numbering).documents["number"].to_list() == [
            "2026/R.1000",
            "2026/R.999",
        ]
        assert issue(register, "gamma", numbering=numbering).documents["number"].to_list() == ["2026/R.1001"]
        with pytest.raises(RefusedError, match=r"numbering\.invoice: found 'INV-"):
            issue(register, "delta")
        later = issue(register, "delta", as_of=date(2027, 1, 1))
        assert later.documents["number"].to_list() == ["INV-2027-000001"]
        assert (register.number_gaps(), register.missing_guards()) == ([], [])
        assert [problem.place for problem in register.changed_formats(numbering)] == ["numbering.invoice"]
        assert register.changed_formats(numbering, 2028) == []


def test_versions_of_an_opening_balance_are_kept(register: Register) -> None:
    register.record_opening_balances(opening_balance("-3.25", version=2))
    assert register.opening_balances().equals(pl.concat([opening_balance("12.50"), opening_balance("-3.25", 2)]))


def test_a_file_that_was_drawn_again_is_recorded_once(register: Register) -> None:
    for _ in range(2):
        register.record_redrawn_files(redrawn("INV-2026-000001", "1"))
    both = pl.concat([redrawn("INV-2026-000001", "1"), redrawn("INV-2026-000002", "1")])
    register.record_redrawn_files(both)
    assert register.redrawn_files().equals(both.select(register.redrawn_files().columns))


def test_a_register_of_a_newer_version_is_refused(register: Register, database: sa.Engine, register_url: str) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(RefusedError, match="newer version of the program"):
        Register.open(Home(Path(database.url.database or "").parent), register_url)


# --- a server by URL ------------------------------------------------------------------------------------------------


def test_two_runs_are_never_at_work_with_one_server(
    postgresql: Server, processes: ProcessPoolExecutor, tmp_path: Path
) -> None:
    url = postgresql.new_database()
    with closing(Register.open(Home(tmp_path), url)) as one, ExitStack() as alone:
        alone.enter_context(one.alone())
        with one.alone():
            pass
        assert "another run is at work" in processes.submit(be_alone, tmp_path, url).result(60)
        alone.close()
        assert processes.submit(be_alone, tmp_path, url).result(60) == "alone"


def test_a_step_elsewhere_works_only_while_its_head_holds_the_lock_and_the_next_run_waits_for_it(
    postgresql: Server, tmp_path: Path
) -> None:
    url = postgresql.new_database()
    with ExitStack() as opened:
        head, step, other = (opened.enter_context(closing(Register.open(Home(tmp_path), url))) for _ in range(3))
        with pytest.raises(InterruptedRunError, match="leads this run is gone"), step.step_of("run-1"):
            pass
        with ExitStack() as running, ExitStack() as steps:
            running.enter_context(head.alone(holder="run-1"))
            steps.enter_context(step.step_of("run-1"))
            with other.step_of("run-1"):
                pass
            with pytest.raises(InterruptedRunError), other.step_of("run-2"):
                pass
            running.close()
            assert not other.is_held_by("run-1")
            with pytest.raises(RefusedError, match="another run is at work"), other.alone():
                pass
            steps.close()
            with other.alone(holder="run-2"), pytest.raises(InterruptedRunError), step.step_of("run-1"):
                pass


def be_alone(root: Path, url: str) -> str:
    with closing(Register.open(Home(root), url)) as register:
        try:
            with register.alone():
                return "alone"
        except RefusedError as error:
            return str(error)


def test_a_server_that_vanishes_ends_the_run_and_is_good_again_afterwards(tmp_path: Path) -> None:
    with Server.running() as server:
        register = Register.open(Home(tmp_path), server.new_database())
        issue(register, "acme")
        with register.alone():
            server.stop()
            with pytest.raises(InterruptedRunError, match="the register cannot be used any more") as refused:
                issue(register, "beta")
            assert "secret" not in str(refused.value)
        server.start()
        with register.alone():
            assert issue(register, "beta").documents["number"].to_list() == ["INV-2026-000002"]
        register.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+psycopg://overage:secret@/nowhere?host=/nonexistent", "the register cannot be opened"),
        ("postgresql+psycopg://overage:secret@127.0.0.1:1/nowhere", "the register cannot be opened"),
        ("mysql+mysqldb://overage:secret@localhost/register", "cannot be used"),
        ("postgres:secret", "no URL of a database"),
        ("postgresql+nothing://overage:secret@localhost/register", "cannot be used"),
    ],
)
def test_a_server_that_cannot_be_reached_is_refused_without_saying_the_password(
    tmp_path: Path, url: str, said: str
) -> None:
    with pytest.raises(RefusedError, match=said) as refused:
        Register.open(Home(tmp_path), url)
    assert "secret" not in str(refused.value)


def test_a_closed_register_leaves_nothing_in_memory(tmp_path: Path, register_url: str | None) -> None:
    register = Register.open(Home(tmp_path), register_url)
    assert register.documents().is_empty()
    engine = weakref.ref(register.writable)
    register.close()
    del register
    gc.collect()
    assert engine() is None


def test_connections_that_nobody_has_closed_end_with_the_last_view(postgresql: Server, tmp_path: Path) -> None:
    url = postgresql.new_database()
    view = Register.open(Home(tmp_path), url).of(bucket_ranges(2)[0])
    assert view.documents().is_empty()
    assert postgresql.comes_to(1, url)
    del view
    gc.collect()
    assert postgresql.comes_to(0, url)


def test_the_link_of_an_account_is_drawn_once(register: Register) -> None:
    first = register.draw_profile_tokens(["acme", "beta"])
    assert re.fullmatch("[0-9a-f]{32}", first["acme"]) and len(set(first.values())) == 2
    assert register.draw_profile_tokens(["beta", "acme"]) == first == register.profile_tokens()
    renewed = register.renew_profile_token("acme")
    assert register.profile_tokens() == first | {"acme": renewed} != first
    assert register.profile_links()["token"].to_list() == [first["acme"], renewed, first["beta"]]
