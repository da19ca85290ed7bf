"""A page per account that shows its billing profile, and an index of them (rule 25)."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote

import polars as pl
from jinja2 import FunctionLoader, StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from billing.model.catalogue import Catalogue
from billing.model.money import minor_units
from billing.model.plain_rows import plain_rows
from billing.store.files import folders_synced_once, unsynced_if_new, write_bytes
from billing.store.home import Home

_TEMPLATES: Final = ("profile.html.j2", "profiles.html.j2", "profile.css")
# File names have at most 255 bytes, including the ending and the prefix of scratch files.
_LONGEST_NAME: Final = 200
_SAFE: Final = " @+,=()&$!'~"


def write_profile_pages(
    home: Home, profiles: pl.DataFrame, previous: pl.DataFrame, names: dict[str, str | None], catalogue: Catalogue
) -> int:
    """Write the pages of accounts whose profiles changed, and the index.

    Parameters
    ----------
    profiles, previous
        The table PROFILE now, and as it was when the pages were written.
    names
        What to call the accounts.

    Returns
    -------
    int
        How many pages were written.
    """
    texts = {name: files("invoice_templates").joinpath(name).read_text("utf-8") for name in _TEMPLATES}
    state = home.lake / "profile_pages.json"
    made_with = json.dumps([texts, catalogue.content_hash]).encode()
    is_known = state.exists() and state.read_bytes() == made_with
    environment = ImmutableSandboxedEnvironment(
        loader=FunctionLoader(texts.__getitem__), autoescape=True, undefined=StrictUndefined
    )
    page, index = environment.get_template("profile.html.j2"), environment.get_template("profiles.html.j2")
    style = texts["profile.css"]
    rows = plain_rows(profiles, _decimals(profiles, catalogue))
    earlier = plain_rows(previous, _decimals(previous, catalogue)) if is_known else []
    before = {row["account_id"]: row for row in earlier}
    written = 0
    pages = page_names([row["account_id"] for row in rows])
    standing = {entry.name for entry in os.scandir(home.profiles)} if home.profiles.is_dir() else set()
    with folders_synced_once():
        for row in rows:
            path = home.profiles / pages[row["account_id"]]
            if before.get(row["account_id"]) != row or path.name not in standing:
                shown = page.render(style=style, **_shown(row, names.get(row["account_id"]), catalogue))
                written += write_bytes(path, shown.encode())
        written += write_bytes(home.profiles / "index.html", _index(index, style, rows, names, pages, catalogue))
    _remove_former_pages(home, pages, standing)
    # Without it all pages are written again.
    with unsynced_if_new(state):
        write_bytes(state, made_with)
    return written


def _index(
    template: Template,
    style: str,
    rows: Sequence[dict[str, Any]],
    names: Mapping[str, str | None],
    pages: Mapping[str, str],
    catalogue: Catalogue,
) -> bytes:
    listed = [row | {"name": names.get(row["account_id"]), "page": quote(pages[row["account_id"]])} for row in rows]
    as_of = rows[0]["as_of"] if rows else ""
    used = sorted({row["currency"] for row in rows}) or [catalogue.currency]
    return template.render(style=style, profiles=listed, as_of=as_of, currencies=used).encode()


def page_names(account_ids: Sequence[str]) -> dict[str, str]:
    """The file of each account's page: `a-` and its id, with what a file name cannot hold written as %XX.

    Ids that differ in case only have their capitals escaped, too: some file systems are case-insensitive.
    """
    alike = Counter(account_id.casefold() for account_id in account_ids)
    return {each: page_name(each, is_alike=alike[each.casefold()] > 1) for each in account_ids}


def page_name(account_id: str, *, is_alike: bool = False) -> str:
    """As `page_names`, of one account; `is_alike`: another one differs in capital letters only.

    An id too long for a file name is truncated and followed by `%~` and its hash; no other id contains `%~`.
    """
    name = quote(account_id, safe=_SAFE)
    if is_alike:
        name = re.sub("(%[0-9A-F]{2})|([A-Z])", lambda found: found[1] or f"%{ord(found[2]):02X}", name)
    return f"a-{_shortened(name, account_id)}.html"


def _shortened(name: str, account_id: str) -> str:
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]}%~{hashlib.sha256(account_id.encode()).hexdigest()[:16]}"


def _remove_former_pages(home: Home, pages: Mapping[str, str], standing: set[str]) -> None:
    """Remove stale pages: names of earlier versions, and of accounts whose page name changed."""
    # On a case-insensitive file system these are one file.
    kept = {name.casefold() for name in pages.values()} | {"index.html"}
    for account_id in pages:
        former = quote(account_id, safe=_SAFE)
        if account_id == "index" or account_id.startswith("."):
            former = f"%{ord(former[0]):02X}{former[1:]}"
        names = (f"{_shortened(former, account_id)}.html", page_name(account_id), page_name(account_id, is_alike=True))
        for name in names:
            if name in standing and name.casefold() not in kept:
                (home.profiles / name).unlink(missing_ok=True)


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
