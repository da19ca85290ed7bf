"""A page per account that shows its billing profile, and an index of them (rule 25)."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import polars as pl
from jinja2 import FunctionLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from billing.model.catalogue import Catalogue
from billing.model.money import minor_units
from billing.model.plain_rows import plain_rows
from billing.store.files import folders_synced_once, unsynced_if_new, write_bytes, write_file
from billing.store.home import Home
from billing.store.sorted_parts import SortedParts

_TEMPLATES: Final = ("profile.html.j2", "profiles.html.j2", "profile.css")
_LISTED: Final = (
    *("account_id", "as_of", "currency", "package", "status", "next_billing_date"),
    *("upcoming_amount", "previous_amount", "outstanding"),
)
"""What the index shows of a profile, beside the account's name."""
# File names have at most 255 bytes, including the ending and the prefix of scratch files.
_LONGEST_NAME: Final = 200
_SAFE: Final = " @+,=()&$!'~"


class ProfilePages:
    """Writes the pages of accounts whose profiles changed, shard by shard, and the index.

    Parameters
    ----------
    accounts
        The ids of all accounts, each once.
    """

    def __init__(self, home: Home, catalogue: Catalogue, accounts: pl.Series) -> None:
        self._home, self._catalogue, self._alike = home, catalogue, ids_alike(accounts)
        texts = {name: files("invoice_templates").joinpath(name).read_text("utf-8") for name in _TEMPLATES}
        self._state = home.lake / "profile_pages.json"
        self._made_with = json.dumps([texts, catalogue.content_hash]).encode()
        self._is_known = self._state.exists() and self._state.read_bytes() == self._made_with
        environment = ImmutableSandboxedEnvironment(
            loader=FunctionLoader(texts.__getitem__), autoescape=True, undefined=StrictUndefined
        )
        self._page, self._index = (environment.get_template(name) for name in _TEMPLATES[:2])
        self._style = texts["profile.css"]
        self._listed = SortedParts(["account_id"])
        self._former: set[str] = set()

    def write(self, profiles: pl.DataFrame, previous: pl.DataFrame, names: pl.DataFrame) -> int:
        """Write the pages of some accounts; returns how many were written.

        Parameters
        ----------
        profiles, previous
            The table PROFILE of these accounts now, and as it was when their pages were written.
        names
            account_id, name: what to call them.
        """
        rows = plain_rows(profiles, _decimals(profiles, self._catalogue))
        earlier = plain_rows(previous, _decimals(previous, self._catalogue)) if self._is_known else []
        before = {row["account_id"]: row for row in earlier}
        called = dict(names.select("account_id", "name").iter_rows())
        pages = {row["account_id"]: self._name(row["account_id"]) for row in rows}
        standing = _standing(self._home, pages)
        written = 0
        with folders_synced_once():
            for row in rows:
                account_id = row["account_id"]
                if before.get(account_id) != row or pages[account_id] not in standing:
                    shown = self._page.render(style=self._style, **_shown(row, called.get(account_id), self._catalogue))
                    written += write_bytes(self._home.profiles / pages[account_id], shown.encode())
        self._former |= standing - set(pages.values())
        listed = [
            (*(row[name] for name in _LISTED), called.get(account_id), pages[account_id])
            for row in rows
            for account_id in [row["account_id"]]
        ]
        columns = dict.fromkeys((*_LISTED, "name", "page"), pl.String)
        self._listed.add(pl.DataFrame(listed, schema=columns, orient="row"))
        return written

    def finish(self) -> int:
        """Write the index, and remove stale pages; returns how many pages were written."""
        with folders_synced_once():
            is_written = write_file(self._home.profiles / "index.html", self._write_index)
        self._remove_former_pages()
        # Without it all pages are written again.
        with unsynced_if_new(self._state):
            write_bytes(self._state, self._made_with)
        return int(is_written)

    def _name(self, account_id: str) -> str:
        return page_name(account_id, is_alike=account_id in self._alike)

    def _write_index(self, path: Path) -> None:
        used = self._listed.scan().group_by("currency", "as_of").len().collect().sort("currency")
        rows = (
            row | {"page": quote(row["page"])} for frame in self._listed.rows() for row in frame.iter_rows(named=True)
        )
        page = self._index.stream(
            style=self._style,
            profiles=rows,
            accounts=used["len"].sum(),
            as_of=next(iter(used["as_of"]), ""),
            currencies=list(used["currency"]) or [self._catalogue.currency],
        )
        page.enable_buffering(1000)
        page.dump(str(path), encoding="utf-8")

    def _remove_former_pages(self) -> None:
        """Remove stale pages: names of earlier versions, and of accounts whose page name changed."""
        if not self._former:
            return
        # On a case-insensitive file system these are one file.
        names = {name.casefold() for name in self._former}
        page = pl.col("page").str.to_lowercase()
        kept = self._listed.scan().select(page).filter(page.is_in(list(names))).collect()["page"]
        for name in sorted(self._former):
            if name.casefold() not in {*kept, "index.html"}:
                (self._home.profiles / name).unlink(missing_ok=True)


def ids_alike(account_ids: pl.Series) -> frozenset[str]:
    """Of ids, each once, those that differ from another one in capital letters only."""
    small = account_ids.str.to_lowercase()
    # Only other letters than ASCII's may become something else than their small letters.
    others = account_ids.filter(account_ids.str.contains(r"[^\x00-\x7f]"))
    folded = pl.Series([each.casefold() for each in others], dtype=pl.String)
    doubtful = pl.concat([account_ids.filter(small.is_duplicated() | small.is_in(folded.implode())), others]).unique()
    found = Counter(each.casefold() for each in doubtful)
    return frozenset(each for each in doubtful if found[each.casefold()] > 1)


def page_name(account_id: str, *, is_alike: bool = False) -> str:
    """The file of an account's page: `a-` and its id, with what a file name cannot hold written as %XX.

    Where another id differs in capital letters only (`is_alike`), capitals are escaped, too: some file systems are
    case-insensitive. An id too long for a file name is truncated and followed by `%~` and its hash; no other id
    contains `%~`.
    """
    name = quote(account_id, safe=_SAFE)
    if is_alike:
        name = re.sub("(%[0-9A-F]{2})|([A-Z])", lambda found: found[1] or f"%{ord(found[2]):02X}", name)
    return f"a-{_shortened(name, account_id)}.html"


def _shortened(name: str, account_id: str) -> str:
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]}%~{hashlib.sha256(account_id.encode()).hexdigest()[:16]}"


def _standing(home: Home, pages: Mapping[str, str]) -> set[str]:
    """Which files of these accounts are there: their pages, and pages of other names that they had before."""
    names = set(pages.values())
    for account_id in pages:
        former = quote(account_id, safe=_SAFE)
        if account_id == "index" or account_id.startswith("."):
            former = f"%{ord(former[0]):02X}{former[1:]}"
        names |= {
            f"{_shortened(former, account_id)}.html",
            page_name(account_id),
            page_name(account_id, is_alike=True),
        }
    return {name for name in names if (home.profiles / name).exists()}


def _decimals(profiles: pl.DataFrame, catalogue: Catalogue) -> list[int]:
    """The decimals of each row, of its currency."""
    codes = profiles["currency"].fill_null(catalogue.currency)
    return [_places(code) for code in codes]


@lru_cache(maxsize=200)
def _places(currency: str) -> int:
    return minor_units(currency) or 0


def _shown(row: dict[str, Any], name: str | None, catalogue: Catalogue) -> dict[str, Any]:
    titles = {package.name: package.title for package in catalogue.packages}
    add_ons = {add_on.name: add_on.title for add_on in catalogue.add_ons}
    coupons = {coupon.name: coupon.title for coupon in catalogue.coupons}
    pending = row["pending_change"]
    return {
        "profile": row,
        "name": name,
        "currency": row["currency"],
        "has_credits": Decimal(row["credits_left"]) > 0,
        "package_title": titles.get(row["package"], row["package"]),
        "pending_title": titles.get(pending["to_package"], pending["to_package"]) if pending else None,
        "usage": [_usage_row(usage, catalogue) for usage in row["usage"]],
        "coupons": [each | {"title": coupons.get(each["coupon"], each["coupon"])} for each in row["coupons"]],
        "add_ons": [each | {"title": add_ons.get(each["add_on"], each["add_on"])} for each in row["add_ons"]],
    }


def _usage_row(usage: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    metric = catalogue.metric(usage["metric"])
    quantity, excess = Decimal(usage["quantity"] or 0), Decimal(usage["excess"] or 0)
    allowance = None if usage["allowance"] is None else Decimal(usage["allowance"])
    whole = max(quantity, allowance or Decimal(0)) or Decimal(1)
    within = Decimal(0) if allowance is None else (quantity - excess) * 100 / whole
    return usage | {
        "title": f"{metric.title}, {metric.unit}" if metric.unit else metric.title,
        "within": f"{within:.1f}",
        "over": f"{excess * 100 / whole:.1f}",
    }
