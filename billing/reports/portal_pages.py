"""The accounts' own pages: `profiles/<token>/index.html`, with copies of the account's documents beside (rule 25).

A folder is all that an account's page needs: no server, no script, nothing loaded from elsewhere.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from decimal import localcontext
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any, Final

import polars as pl

from billing import __version__
from billing.documents.titles import document_locale_name, language, tax_names
from billing.month.business import Business
from billing.rendering.fonts import TEMPLATES
from billing.rendering.locale_formats import EXACT
from billing.rendering.words import OTHERS
from billing.reports.portal_text import Facts, Speaker, page_text
from billing.reports.profiles import NextBills
from billing.rules.receivables import shown_number
from billing.store.files import scratch_path, unsynced_if_new, write_bytes, write_file
from billing.store.home import Home
from billing.store.working_copy import WorkingCopy, working_copy

_TEMPLATES: Final = ("portal.html.j2", "portal.css")
_TOKEN: Final = re.compile("[0-9a-f]{32}")
_PAGE: Final = "index.html"
_STATE: Final = {"account_id": pl.String, "made_from": pl.String}


def write_portal_pages(business: Business, bills: NextBills) -> int:
    """Write the pages of accounts whose facts moved, and put their documents beside.

    A run that issues draws the tokens of accounts that have none; other runs leave these without a page.

    Returns
    -------
    int
        How many pages were written.
    """
    tokens = _tokens(business, bills.profiles["account_id"])
    home = business.home
    finish_renewals(business)
    page, made_with = _template(business)
    state = home.lake / "profile_portal.parquet"
    before = _made_from(state)
    standing = _folders(home)
    names = tax_names(business.inputs.tax_rates)
    copy = working_copy(home.root)
    speakers: dict[tuple[str, str, str], Speaker] = {}
    made_from: dict[str, str] = {}
    written = 0
    with localcontext(EXACT):
        for facts in _facts(business, bills, tokens):
            account_id = facts.profile["account_id"]
            digest = hashlib.sha256(f"{made_with} {facts!r}".encode()).hexdigest()
            made_from[account_id] = digest
            if before.get(account_id) == digest and tokens[account_id] in standing:
                continue
            key = (facts.account["language"], facts.account["locale"], facts.profile["currency"])
            if key not in speakers:
                speakers[key] = Speaker(*key[:2], business.catalogue.in_currency(key[2]))
            folder = home.profiles / tokens[account_id]
            # The documents first: a page that stands has all that it names.
            _put_documents(home, copy, folder, facts)
            written += write_bytes(folder / _PAGE, page.render(page_text(facts, speakers[key], names)).encode())
    _write_state(state, made_from)
    return written


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


def _tokens(business: Business, accounts: pl.Series) -> dict[str, str]:
    register, policy = business.register, business.catalogue.policy
    # With `auto_issue: false` no run of `bill` issues: from the first issue on each draws tokens.
    if business.issues or (not policy.auto_issue and register.issued_months()):
        return register.draw_profile_tokens(accounts)
    return register.profile_tokens()


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


def _facts(business: Business, bills: NextBills, tokens: Mapping[str, str]) -> Iterator[Facts]:
    """The facts of each account with a token, in the order of the profiles."""
    spoken = {"language": language(business.catalogue), "locale": document_locale_name(business.catalogue)}
    accounts = business.inputs.accounts.select("account_id", "name", **spoken)
    about = {row.pop("account_id"): row for row in accounts.iter_rows(named=True)}
    made = business.currencies.with_currency(business.payments, "now").filter(pl.col("currency") == pl.col("now"))
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
    on_disk = _document_files(business.home)
    issued = dict(business.receivables.select("number", "issued_on").iter_rows())
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
            files={row["number"]: _files_of(row["document"], on_disk) for row in profile["payment_history"]},
            issued={row["number"]: issued[row["number"]] for row in profile["payment_history"]},
        )


def _by_account(frame: pl.DataFrame) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in frame.iter_rows(named=True):
        found.setdefault(row.pop("account_id"), []).append(row)
    return found


def _document_files(home: Home) -> set[str]:
    """The files of documents, by path below the home."""
    root = home.documents
    months = sorted(entry.name for entry in os.scandir(root) if entry.is_dir()) if root.is_dir() else []
    return {f"{root.name}/{month}/{entry.name}" for month in months for entry in os.scandir(root / month)}


def _files_of(document: str, on_disk: set[str]) -> list[str]:
    """The names of a document's PDF and XML that stand."""
    paths = (document, f"{document.removesuffix('.pdf')}.xml")
    return [PurePosixPath(path).name for path in paths if path in on_disk]


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


def _folders(home: Home) -> set[str]:
    """The tokens of the pages that stand."""
    if not home.profiles.is_dir():
        return set()
    found = (entry.name for entry in os.scandir(home.profiles) if _TOKEN.fullmatch(entry.name))
    return {name for name in found if (home.profiles / name / _PAGE).is_file()}


def _made_from(state: Path) -> dict[str, str]:
    """By account: the digest of what its page was made from; nothing where that is not known."""
    try:
        return dict(pl.read_parquet(state, columns=list(_STATE)).iter_rows())
    except (OSError, pl.exceptions.PolarsError):
        return {}


def _write_state(state: Path, made_from: Mapping[str, str]) -> None:
    rows = pl.DataFrame(list(made_from.items()), schema=_STATE, orient="row").sort("account_id")
    # Without it all pages are written again.
    with unsynced_if_new(state):
        write_file(state, lambda scratch: rows.write_parquet(scratch, compression="zstd", compression_level=1))
