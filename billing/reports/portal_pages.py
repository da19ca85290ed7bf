"""The accounts' own pages: `profiles/<token>/index.html`, with copies of the account's documents beside (rule 25).

A folder is all that an account's page needs: no server, no script, nothing loaded from elsewhere.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from decimal import localcontext
from importlib.resources import files
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, Final

import polars as pl

from billing import __version__
from billing.documents.titles import document_locale_name, language, tax_names
from billing.inputs.divided_rows import by_shard
from billing.model.columns import ACCOUNT, Column, Table
from billing.month.business import Business
from billing.register.profile_links import tokens_in_force
from billing.rendering.fonts import TEMPLATES
from billing.rendering.locale_formats import EXACT
from billing.rendering.words import OTHERS
from billing.reports.portal_text import Facts, Speaker, page_text
from billing.reports.profiles import NextBills, rows_of_accounts
from billing.rules.receivables import shown_number
from billing.store.files import scratch_path, unsynced_if_new, write_bytes
from billing.store.home import Home
from billing.store.sorted_parts import SortedParts
from billing.store.working_copy import WorkingCopy, working_copy

_TEMPLATES: Final = ("portal.html.j2", "portal.css")
_PAGE: Final = "index.html"
_STATE: Final = Table(
    "profile_portal",
    "What the account's own page was made from.",
    (ACCOUNT, Column("made_from", pl.String, "A digest")),
    ("account_id",),
)


class PortalPages:
    """Writes the pages of accounts whose facts moved, shard by shard, and puts their documents beside.

    A run that issues draws the tokens of accounts that have none; other runs leave these without a page.

    Parameters
    ----------
    business
        All accounts.
    """

    def __init__(self, business: Business) -> None:
        finish_renewals(business)
        self._home, register, policy = business.home, business.register, business.catalogue.policy
        # With `auto_issue: false` no run of `bill` issues: from the first issue on each draws tokens.
        self._draws = business.issues or (not policy.auto_issue and bool(register.issued_months()))
        self._page, self._made_with = _template(business)
        self._names = tax_names(business.inputs.tax_rates)
        self._copy = working_copy(self._home.root)
        self._speakers: dict[tuple[str, str, str], Speaker] = {}
        self._state = self._home.lake / "profile_portal.parquet"
        self._before = by_shard(_made_from(self._state), ["account_id"], business.new_shards)
        self._links = by_shard(register.profile_links(), ["account_id", "version"], business.new_shards)
        self._made_from = SortedParts(["account_id"])

    def write(self, business: Business, bills: NextBills) -> int:
        """Write the pages of a shard, or of the whole business; returns how many were written."""
        buckets, home = business.home.buckets, self._home
        tokens = tokens_in_force(self._links(buckets))
        if self._draws:
            tokens = business.register.draw_profile_tokens(bills.profiles["account_id"], tokens)
        before = dict(self._before(buckets).iter_rows())
        made_from: dict[str, str] = {}
        written, receivables = 0, business.receivables
        with localcontext(EXACT):
            for facts in chain.from_iterable(
                _facts(business, batch, receivables, tokens) for batch in bills.in_batches()
            ):
                account_id = facts.profile["account_id"]
                digest = hashlib.sha256(f"{self._made_with} {facts!r}".encode()).hexdigest()
                made_from[account_id] = digest
                folder = home.profiles / tokens[account_id]
                if before.get(account_id) == digest and (folder / _PAGE).is_file():
                    continue
                key = (facts.account["language"], facts.account["locale"], facts.profile["currency"])
                if key not in self._speakers:
                    self._speakers[key] = Speaker(*key[:2], business.catalogue.in_currency(key[2]))
                # The documents first: a page that stands has all that it names.
                _put_documents(home, self._copy, folder, facts)
                text = page_text(facts, self._speakers[key], self._names)
                written += write_bytes(folder / _PAGE, self._page.render(text).encode())
        self._made_from.add(pl.DataFrame(list(made_from.items()), schema=_STATE.schema, orient="row"))
        return written

    def finish(self) -> None:
        """Record what the pages were made from."""
        # Without it all pages are written again.
        with unsynced_if_new(self._state):
            self._made_from.write(self._state, _STATE)


def link_of(business: Business, account: str) -> tuple[str | None, bool]:
    """The path of an account's page below the home, and whether the page stands; None before a token is drawn."""
    token = business.register.profile_tokens().get(account)
    path = f"{business.home.profiles.name}/{token}/{_PAGE}"
    return (None, False) if token is None else (path, (business.home.root / path).is_file())


def address_of(path: str, profile_url: str) -> str:
    """The address of a page where the folders of `profiles/` are published; its path where that is not said."""
    if not profile_url:
        return path
    return f"{profile_url.rstrip('/')}/{PurePosixPath(path).parent.name}/"


def renew_link(business: Business, account: str) -> None:
    """Give an account's page another token; what stood at the former path is there no more."""
    business.register.renew_profile_token(account)
    finish_renewals(business)


def finish_renewals(business: Business) -> None:
    """Move the pages whose token was renewed; a run that was killed in between is finished here."""
    links = business.register.profile_links()
    renewed = links.filter(pl.col("version") < pl.col("version").max().over("account_id"))
    tokens = business.register.profile_tokens() if renewed.height else {}
    for account, token in renewed.sort("version", descending=True).select("account_id", "token").iter_rows():
        former, folder = business.home.profiles / token, business.home.profiles / tokens[account]
        if former.is_dir() and not folder.exists():
            former.replace(folder)
        elif former.is_dir():
            shutil.rmtree(former)


def _template(business: Business) -> tuple[Any, str]:
    """The template with its style, and a digest of all that pages are made with beside the accounts' facts."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    texts = {name: files("invoice_templates").joinpath(name).read_text("utf-8") for name in _TEMPLATES}
    # The template is part of the program: a sandbox would cost a third of a page.
    environment = Environment(
        loader=FunctionLoader(texts.__getitem__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["style"] = Markup(texts["portal.css"])  # noqa: S704  # part of the program
    catalogues = [path.read_text("utf-8") for path in sorted((TEMPLATES / OTHERS).glob("*.po"))]
    catalogue = business.catalogue
    names = sorted((name, sorted(said.items())) for name, said in tax_names(business.inputs.tax_rates).items())
    made_with = json.dumps(
        [__version__, texts, catalogues, catalogue.content_hash, catalogue.resources.digest, names], ensure_ascii=False
    )
    return environment.get_template("portal.html.j2"), hashlib.sha256(made_with.encode()).hexdigest()


def _facts(
    business: Business, bills: NextBills, receivables: pl.DataFrame, tokens: Mapping[str, str]
) -> Iterator[Facts]:
    """The facts of each account of some bills with a token, in the order of the profiles."""
    spoken = {"language": language(business.catalogue), "locale": document_locale_name(business.catalogue)}

    def its(rows: pl.DataFrame) -> pl.DataFrame:
        return rows_of_accounts(rows, bills.profiles)

    accounts = its(business.inputs.accounts).select("account_id", "name", **spoken)
    about = {row.pop("account_id"): row for row in accounts.iter_rows(named=True)}
    made = business.currencies.with_currency(its(business.payments), "now").filter(pl.col("currency") == pl.col("now"))
    payments = made.sort("at", "payment_id", descending=True).select(
        "account_id", "on", "amount", "status", shown_number("document")
    )
    of_payments, of_lines, of_taxes = (
        _by_account(frame)
        for frame in (
            payments,
            bills.lines.select("account_id", "kind", "metric", "rule", "package", "amount"),
            bills.taxes.select("account_id", "name", "rate", "amount", "reason"),
        )
    )
    of_days = _by_account(bills.days)
    cycles = {account: (start, end) for account, start, end in bills.cycles.iter_rows()}
    issued = dict(its(receivables).select("number", "issued_on").iter_rows())
    for profile in bills.profiles.iter_rows(named=True):
        account_id = profile["account_id"]
        if account_id not in tokens:
            continue
        yield Facts(
            profile=profile,
            account=about[account_id],
            cycle=cycles.get(account_id),
            lines=of_lines.get(account_id, []),
            taxes=of_taxes.get(account_id, []),
            days=of_days.get(account_id, []),
            payments=of_payments.get(account_id, []),
            files={row["number"]: _files_of(business.home, row["document"]) for row in profile["payment_history"]},
            issued={row["number"]: issued[row["number"]] for row in profile["payment_history"]},
        )


def _by_account(frame: pl.DataFrame) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in frame.iter_rows(named=True):
        found.setdefault(row.pop("account_id"), []).append(row)
    return found


def _files_of(home: Home, document: str) -> list[str]:
    """The names of a document's PDF and XML that are there."""
    paths = (home.root / document, (home.root / document).with_suffix(".xml"))
    return [path.name for path in paths if path.is_file()]


def _put_documents(home: Home, copy: WorkingCopy | None, folder: Path, facts: Facts) -> None:
    """Put an account's documents beside its page: as hard links, or as copies where there can be none."""
    paths = {
        name: (PurePosixPath(row["document"]).parent / name).as_posix()
        for row in facts.profile["payment_history"]
        for name in facts.files[row["number"]]
    }
    if paths and copy is not None:
        # In a working copy documents are known by name only.
        copy.fetch_documents(paths.values())
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in paths.items():
        _put(home.root / path, folder / name)


def _put(source: Path, target: Path) -> None:
    if target.exists() and source.samefile(target):
        return
    scratch = scratch_path(target, os.getpid())
    scratch.unlink(missing_ok=True)
    try:
        os.link(source, scratch)
    except OSError as error:
        # A file system without hard links, or another one.
        if error.errno not in (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EACCES):
            raise
        write_bytes(target, source.read_bytes())
        return
    scratch.replace(target)


def _made_from(state: Path) -> pl.DataFrame:
    """As `_STATE`: what each page was made from; no rows where that is not known."""
    try:
        return pl.read_parquet(state, columns=list(_STATE.column_names))
    except (OSError, pl.exceptions.PolarsError):
        return _STATE.empty()
