"""A billing home as those outside of the program write it: its landing folder, filled by hand, file by file."""

import copy
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from billing.starter import starter_catalogue

ACCOUNT_HEADER = (
    "account_id,name,email,address_line1,address_line2,city,region,postal_code,country,tax_id,tax_exempt,locale"
)
GB = 10**9


@dataclass
class Landing:
    """A billing home whose landing folder is filled by hand, file by file."""

    root: Path
    catalogue: str = field(default_factory=starter_catalogue)
    written: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "catalogue.yaml").write_text(self.catalogue)
        (self.folder / "accounts.csv").write_text(f"{ACCOUNT_HEADER}\n")

    @property
    def folder(self) -> Path:
        return self.root / "landing"

    def copied(self, root: Path) -> Self:
        """The same business in another folder."""
        twin = copy.copy(self)
        twin.root = shutil.copytree(self.root, root)
        return twin

    def account(self, name: str, *, country: str = "US", tax_id: str = "") -> None:
        with (self.folder / "accounts.csv").open("a") as file:
            address = f"billing@{name}.example.com,1 Example Street,,Springfield,,00000"
            file.write(f"{name},{name.title()} Inc.,{address},{country},{tax_id},,\n")

    def request(self, account: str, kind: str, at: str, channel: str = "support", **members: str | int) -> str:
        self.written += 1
        request_id = f"request-{self.written}"
        request = {"request_id": request_id, "account_id": account, "at": at, "kind": kind, "channel": channel}
        self._append("requests.jsonl", json.dumps(request | members))
        return request_id

    def customer(self, name: str, package: str = "starter", on: str = "2026-01-10", **members: str | int) -> None:
        """An account that buys a package at nine in the morning."""
        self.account(name)
        self.request(name, "subscribe", f"{on}T09:00:00Z", "self_service", package=package, **members)

    def pay(self, account: str, document: str, amount: str, at: str, status: str = "succeeded") -> None:
        self.written += 1
        payment = {"payment_id": f"payment-{self.written}", "account_id": account, "document": document, "at": at}
        self._append("payments.jsonl", json.dumps(payment | {"amount": amount, "currency": "USD", "status": status}))

    def use(
        self,
        account: str,
        on: str = "2026-01-20",
        *,
        leads: int = 0,
        emails: int = 0,
        bytes: int = 0,  # the event's own word
        domains: int = 0,
        delivered: str | None = None,
    ) -> None:
        """Usage at noon of a day, delivered the same day unless said otherwise."""
        for type_, member, value in (
            ("leads.changed", "delta", leads),
            ("email.sent", "count", emails),
            ("bandwidth.served", "bytes", bytes),
            ("domains.changed", "delta", domains),
        ):
            if value:
                self.written += 1
                text = event(f"event-{self.written}", account, type_, {member: value}, f"{on}T12:00:00Z")
                self.deliver([text], delivered or on)

    def deliver(self, rows: Iterable[str], day: str, name: str = "usage.jsonl") -> Path:
        """Append rows to a file of a delivery day."""
        self._append(f"usage/{day}/{name}", *rows)
        return self.folder / "usage" / day / name

    def _append(self, name: str, *rows: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.writelines(f"{row}\n" for row in rows)


def event(id_: str, account: str, type_: str, data: Mapping[str, object], time: str) -> str:
    """A usage event as one line of CloudEvents JSON."""
    return json.dumps(
        {
            "specversion": "1.0",
            "id": id_,
            "source": "/app",
            "type": type_,
            "subject": account,
            "time": time,
            "data": data,
        }
    )


def keep_few_deliveries(home: Path, every: int) -> None:
    """Remove the usage of all days but every so many: each takes its time, however little is in it."""
    for day in sorted((home / "landing" / "usage").iterdir()):
        if (int(day.name[-2:]) - 1) % every:
            shutil.rmtree(day)


def content_of(home: Path) -> dict[str, str]:
    """The hash of every file of a home, Dagster's own records left out.

    The folders of accounts' own pages are named by what they hold: their names are drawn at random.
    """
    found = {
        path.relative_to(home).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(home.rglob("*"))
        if path.is_file() and ".dagster" not in path.parts
    }
    page = re.compile("(profiles/[0-9a-f]{32})/")
    named = {each[1]: found.get(f"{each[1]}/index.html", "no page") for name in found if (each := page.match(name))}
    return {page.sub(lambda each: f"profiles/{named[each[1]]}/", name): digest for name, digest in found.items()}


def two_customers(home: Path) -> Landing:
    """Two customers with overages, and a row that is no JSON."""
    landing = Landing(home)
    for name in ("acme", "bolt"):
        landing.customer(name)
    landing.use("acme", emails=16_000, leads=2_600)
    landing.use("bolt", "2026-01-21", emails=400_000)
    landing.deliver(["no JSON at all"], "2026-01-22")
    return landing
