"""The same business in one piece and in shards, on one machine and on workers, in a folder and in a bucket."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from unittest import mock

import polars as pl
import pytest

from billing.model.buckets import bucket_of, bucket_ranges
from billing.model.codes import DecisionKind, DocumentKind, LineKind
from billing.model.tables import TABLES
from billing.month.business import Business
from billing.register.register import Register
from billing.reports.show import read_table
from billing.sample import billing_hint, write_sample, write_sample_payments
from billing.store.home import Home
from tests.landing import content_of, event, keep_few_deliveries
from tests.object_store import ObjectStore
from tests.pipeline import outside
from tests.pipeline.cluster import PATIENCE, Cluster
from tests.pipeline.outside import Ended, know_delivered_files, overage
from tests.postgresql import Server, register_rows
from tests.rabbitmq import Broker
from tests.sizes import LONG, sized

pytestmark = pytest.mark.usefixtures("profiles")

MONTHS: Final = sized(usual=2, long=5)
DAYS_BETWEEN_DELIVERIES: Final = sized(usual=8, long=1)
ACCOUNTS: Final = 14
"""So few have numbers that fall into the first of seven shards only."""
LATER: Final = "newcomer-21"
"""An account of the last shard, of four and of seven, which has no customer before."""
ARRIVES: Final = billing_hint(sized(usual=2, long=3))[0]
PAGES: Final = ("documents/", "reports/", "profiles/")


@dataclass(frozen=True)
class Way:
    """How a business is billed.

    Attributes
    ----------
    shards
        Of each month that is computed for the first time.
    """

    shards: tuple[int, ...] = (1,) * MONTHS
    place: str = "folder"
    steps: str = "plain"

    def __str__(self) -> str:
        return f"{self.shards} {self.place} {self.steps}"


CHANGED: Final = sized(usual=(1, 2), long=(4, 7, 7, 7, 7))
WAYS: Final = sized(
    # buckets: see test_store_homes.py, and test_cluster.py for shards in one
    usual=[Way(CHANGED)],
    long=[
        Way((4,) * MONTHS),
        Way((7,) * MONTHS, steps="dagster"),
        Way(CHANGED, "bucket"),
        Way(CHANGED, steps="workers"),
        Way((1,) * MONTHS, "bucket", "workers"),
        Way((7,) * MONTHS, "bucket", "workers"),
    ],
)


@dataclass
class Kept:
    """A home that is billed in some way.

    Attributes
    ----------
    name
        As commands take it.
    landing
        A home here whose folder `landing` is what was delivered.
    store
        Where it is, if in a bucket.
    """

    way: Way
    name: str
    landing: Path
    register: str
    work: Path
    store: ObjectStore | None = None
    cluster: Cluster | None = None
    told: list[Ended] = field(default_factory=list)

    def deliver(self, name: str, content: bytes) -> None:
        """Write a file of the landing folder."""
        path = self.landing / "landing" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if self.store is not None:
            bucket, _, prefix = self.name.removeprefix("s3://").partition("/")
            self.store.put(bucket, f"{prefix}/landing/{name}", content)

    def run(self, *arguments: object, month: int = MONTHS, worker: str = "worker") -> Ended:
        """A command, on workers if the home is billed there and the command uses them."""
        environment = {"OVERAGE_SHARDS": str(self.way.shards[month - 1])}
        if self.store is not None:
            environment |= self.store.environment | {"OVERAGE_WORK": str(self.work / worker)}
        if self.cluster is not None and arguments[0] in ("bill", "correct"):
            return self._on_workers(*map(str, arguments))
        with mock.patch.dict(os.environ, environment):
            ended = overage(
                *arguments,
                "--home",
                self.name,
                register=self.register,
                paper=LONG,
                dagster=self.way.steps == "dagster",
            )
        where = str(self.landing) if self.store is None else self.name
        ended = Ended(ended.status, ended.output.replace(where, "HOME"), ended.messages.replace(where, "HOME"))
        self.told.append(ended)
        return ended

    def _on_workers(self, *arguments: str) -> Ended:
        """A command that submits runs: what it has printed are messages."""
        assert self.cluster is not None
        log = self.cluster.folder / "command.log"
        log.unlink(missing_ok=True)
        status = self.cluster.command(self.name, *arguments).wait(PATIENCE)
        where = str(self.landing) if self.store is None else self.name
        self.told.append(Ended(status, "", self.cluster.said("command").replace(where, "HOME")))
        return self.told[-1]

    def folder(self, worker: str = "worker") -> Path:
        """Where the files are here, after a command of that worker."""
        return self.landing if self.store is None else next((self.work / worker).iterdir())


@contextmanager
def kept(way: Way, sample: Path, server: Server, folder: Path, begun: Kept | None = None) -> Iterator[Kept]:
    """A home with the sample's inputs, or one that was begun, and what it takes to bill it."""
    with ExitStack() as stack:
        register = server.copy_of(begun.register) if begun else server.new_database()
        home = Kept(way, str(folder / "home"), folder / "home", register, folder / "work")
        shutil.copytree(begun.landing if begun else sample, home.landing)
        if begun:
            know_delivered_files(home.landing)
            home.told += begun.told
        if way.place == "bucket":
            home.store = stack.enter_context(ObjectStore.running())
            home.name = f"s3://{home.store.new_bucket()}/home"
            for path in sorted((home.landing / "landing").rglob("*")):
                if path.is_file():
                    home.deliver(str(path.relative_to(home.landing / "landing")), path.read_bytes())
        if way.steps == "workers":
            broker = stack.enter_context(Broker.running())
            home.cluster = stack.enter_context(Cluster.running(folder / "cluster", server, broker))
            home.register = home.cluster.register
            if home.store is not None:
                home.cluster.environment |= home.store.environment
        yield home


def live(home: Kept) -> None:
    """Bill each month, with payments, a customer who moves in, and usage that comes late and is corrected."""
    live_through_months(home)
    if LONG:
        month, as_of = billing_hint(MONTHS)
        assert home.run("bill", month, "--as-of", as_of).status == 0


def live_through_months(home: Kept) -> None:
    """What happens in `live` before the last run of a long run; in a usual one the last correction writes profiles."""
    for number in range(2 if home.told else 1, MONTHS + 1):
        live_through_month(home, number)


def live_through_month(home: Kept, number: int) -> None:
    month, as_of = billing_hint(number)
    if home.cluster is not None:
        home.cluster.use_shards(home.way.shards[number - 1], home.name)
    with mock.patch.object(outside, "LEFT_OUT", sized(usual=("profiles", "billing_report"), long=())):
        assert home.run("bill", month, "--as-of", as_of, month=number).status == 0
    pay(home)
    if number == 1 and not LONG:
        # test_store_homes.py moves in
        return
    if number == 1:
        table = home.landing.parent / "old.csv"
        table.write_text(
            "account_id,name,country,package,started_on,billed_through,balance,reference\n"
            "moved,Moved Inc.,US,starter,2023-05-10,2026-02-10,120.50,OLD-1\n"
        )
        moved = home.run("move-in", table, "--as-of", as_of, month=number)
        assert moved.status == 0, moved.messages
    else:
        before, _ = billing_hint(number - 1)
        used = [
            event(
                f"late-{number}-{name}",
                f"acct-{name:06}",
                "email.sent",
                {"count": 40_000},
                f"{before}-25T10:00:00Z",
            )
            for name in range(1, 6)
        ]
        home.deliver(f"usage/{as_of}/late.jsonl", "".join(f"{row}\n" for row in used).encode())
        corrected = home.run("correct", month, "--reason", "Counted late.", "--as-of", as_of, month=number)
        assert corrected.status == 0, corrected.messages


def pay(home: Kept) -> None:
    """Pay the documents that have been issued."""
    register = Register.open(Home(home.landing), home.register)
    write_sample_payments(home.landing, register.documents())
    register.close()
    home.deliver("payments.jsonl", (home.landing / "landing" / "payments.jsonl").read_bytes())


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up business, and a customer who comes later."""
    home = tmp_path_factory.mktemp("sample") / "home"
    write_sample(home, accounts=ACCOUNTS, months=MONTHS, events_per_account_day=0.5, seed=5)
    landing = home / "landing"
    keep_few_deliveries(home, DAYS_BETWEEN_DELIVERIES)
    header, *rows = (landing / "accounts.csv").read_text().splitlines()
    (landing / "accounts.csv").write_text("\n".join([header, *rows, rows[0].replace("acct-000001", LATER)]) + "\n")
    with (landing / "requests.jsonl").open("a") as file:
        file.write(
            f'{{"request_id": "late", "account_id": "{LATER}", "at": "{ARRIVES}-03T10:00:00Z", "kind": "subscribe", '
            '"channel": "self_service", "package": "starter"}\n'
        )
    return home


@dataclass(frozen=True)
class Whole:
    """The sample billed in one piece, in one process, in a folder, and what it was before other commands were run.

    Attributes
    ----------
    said
        What commands said, by their arguments: they are run once, however many others are compared with it.
    """

    home: Kept
    told: list[Ended]
    rows: dict[str, list[tuple[object, ...]]]
    pages: dict[str, str]
    tables: dict[str, pl.DataFrame]
    said: dict[tuple[object, ...], Ended] = field(default_factory=dict)

    def run(self, *arguments: object) -> Ended:
        """What a command says of it."""
        if arguments not in self.said:
            self.said[arguments] = self.home.run(*arguments, worker="new")
        return self.said[arguments]


@pytest.fixture(scope="module")
def begun(sample: Path, postgresql: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept | None]:
    """The sample after its first month, which is billed in one piece in both ways of a usual run."""
    if LONG:
        yield None
        return
    assert {(way.shards[0], way.place, way.steps) for way in WAYS} == {(1, "folder", "plain")}
    with kept(Way(), sample, postgresql, tmp_path_factory.mktemp("begun")) as home:
        live_through_month(home, 1)
        yield home


@pytest.fixture(scope="module")
def whole(
    sample: Path, postgresql: Server, tmp_path_factory: pytest.TempPathFactory, begun: Kept | None
) -> Iterator[Whole]:
    with kept(Way(), sample, postgresql, tmp_path_factory.mktemp("whole"), begun) as home:
        live(home)
        if LONG:
            assert home.run("verify").status == 0
        told = list(home.told)
        yield Whole(home, told, register_rows(home.register), pages(home, "new"), tables(home, "new"))


@pytest.fixture(scope="module", params=WAYS, ids=str)
def other(
    request: pytest.FixtureRequest,
    sample: Path,
    postgresql: Server,
    tmp_path_factory: pytest.TempPathFactory,
    begun: Kept | None,
) -> Iterator[Kept]:
    """The sample billed in another way."""
    with kept(request.param, sample, postgresql, tmp_path_factory.mktemp("other"), begun) as home:
        live(home)
        yield home


def tables(home: Kept, worker: str) -> dict[str, pl.DataFrame]:
    """The rows of every table."""
    business = Business.load(home.folder(worker), billing_hint(MONTHS)[1], home.register)
    found = {name: read_table(business, name=name) for name in TABLES}
    business.register.close()
    return found


def pages(home: Kept, worker: str) -> dict[str, str]:
    """The hash of every file that people open."""
    return {name: digest for name, digest in content_of(home.folder(worker)).items() if name.startswith(PAGES)}


def words(ended: Ended) -> tuple[int, list[str]]:
    """What a command said, wherever it printed it: of a command on workers everything is in one log."""
    return ended.status, sorted(line.rstrip() for line in (ended.output + ended.messages).splitlines())


def test_documents_numbers_files_register_and_tables_are_the_same(whole: Whole, other: Kept) -> None:
    # A worker that has seen nothing yet gets all of it.
    assert other.run("verify", worker="new").status == 0
    assert register_rows(other.register) == whole.rows
    wanted, found = whole.pages, pages(other, "new")
    assert sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name)) == []
    of_other = tables(other, "new")
    assert [name for name in TABLES if not whole.tables[name].equals(of_other[name])] == []
    assert list(map(words, other.told[: len(whole.told)])) == list(map(words, whole.told))
    # Each month keeps the shards that it was begun with.
    parts = [len(Home(other.folder("new")).parts(TABLES["cycles"], billing_hint(n + 1)[0])) for n in range(MONTHS)]
    assert parts == list(other.way.shards)


def test_everything_happens_to_the_business(whole: Whole) -> None:
    of_whole = whole.tables
    last = bucket_ranges(7)[-1]
    assert last.first <= bucket_of(LATER) <= last.last
    accounts = of_whole["cycles"]["account_id"].unique()
    assert [name for name in accounts if bucket_of(name) >= bucket_ranges(4)[-1].first] == [LATER]
    assert of_whole["cycles"].filter(account_id=LATER)["billing_month"].min() == ARRIVES
    kinds = {*of_whole["decisions"]["kind"]}
    assert {DecisionKind.SUBSCRIBE, DecisionKind.UPGRADE, DecisionKind.DOWNGRADE, DecisionKind.CANCEL} <= kinds
    assert {*of_whole["documents"]["kind"]} == {*DocumentKind}
    assert {LineKind.ADJUSTMENT, LineKind.OVERAGE} <= {*of_whole["lines"]["kind"]}
    assert of_whole["taxes"].height
    assert of_whole["balances"]["paid"].sum() > 0
    if LONG:
        assert {DecisionKind.REFUND, DecisionKind.HOLD, DecisionKind.RESUME} <= kinds


def test_every_command_says_of_a_sharded_home_what_it_says_of_one_piece(whole: Whole, other: Kept) -> None:
    last, as_of = billing_hint(MONTHS)
    following, later = billing_hint(MONTHS + 1)
    invoices = whole.home.landing.parent / "invoices.csv"
    invoices.write_text(f"account_id,kind,amount,billing_date\nmoved,package_fee,98.00,{last}-10\n")
    statement = whole.home.landing.parent / "statement.csv"
    statement.write_text(f"id,at,amount,currency,account_id\n1,{as_of}T10:00:00Z,5.00,USD,{LATER}\n")
    usual: list[tuple[object, ...]] = [
        ("show", "journal", "--month", last, "--format", "csv"),
        ("explain", "INV-2026-000003", "--all"),
        ("preview", following, "--as-of", later, "--format", "json"),
    ]
    others: list[tuple[object, ...]] = [
        ("correct", last, "--reason", "None.", "--as-of", as_of, "--draft"),
        ("compare-invoices", invoices, "--as-of", as_of, "--format", "csv"),
        ("check",),
        ("show", "profile", "--as-of", later),
        ("show", "drafts", "--as-of", later),
        ("preview", last, "--as-of", as_of, "--account", LATER),
        ("import-payments", statement, "--format", "csv"),
        ("bill", following, "--as-of", later, "--draft"),
        ("show", "drafts", "--format", "csv"),
        ("repair",),
    ]
    for arguments in sized(usual=usual, long=[*usual, *others]):
        told = [whole.run(*arguments), other.run(*arguments, worker="new")]
        # Only a store has objects of earlier states.
        said = [replace(ended, messages=re.sub(r"[0-9,]+ objects .*\n", "", ended.messages)) for ended in told]
        assert said[0] == said[1] or (other.cluster is not None and words(said[0]) == words(said[1])), arguments
        assert said[0].status in (0, 1), said
