"""The accounts' own pages: in their language, with nothing of another account, at a path that nobody guesses."""

import os
import re
import shutil
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import polars as pl
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

import tests.european_business as europe
from billing.model.codes import SCHEDULED
from billing.month.business import Business
from billing.rendering.words import LANGUAGES, OTHERS, words
from billing.reports.portal_pages import address_of, finish_renewals, link_of, renew_link
from billing.reports.portal_text import LINES
from billing.reports.profile_pages import page_name
from billing.reports.profiles import NextBills, account_profiles
from tests import sizes
from tests.account_pages import next_bills, write_portal_pages, write_profile_pages
from tests.by_steps import bill_by_steps
from tests.landing import Landing
from tests.sizes import sized

HOSTILE = "<script>alert(1)</script>\"'&{{ 7 * 7 }}" + "W" * 80
COUNTRIES = {"en": "IE", "de": "DE", "fr": "FR", "nl": "NL", "ja": "US"}
HEADINGS = {
    "en": ("Your next bill", "Feb 28, 2026"),
    "de": ("Ihre nächste Rechnung", "28. Februar 2026"),
    "fr": ("Votre prochaine facture", "28 février 2026"),
    "es": ("Su próxima factura", "28 de febrero de 2026"),
    "it": ("La Sua prossima fattura", "28 febbraio 2026"),
    "nl": ("Uw volgende factuur", "28 februari 2026"),
    "pt": ("A sua próxima fatura", "28 de fevereiro de 2026"),
    "pl": ("Następna faktura", "28 lutego 2026"),
    "ja": ("次回のご請求", "2026年2月28日"),
}


@pytest.fixture(scope="module")
def business(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """A customer of each language, and one with a hostile name; documents, payments and usage of two weeks."""
    landing = Landing(tmp_path_factory.mktemp("portal") / "home")
    europe.change_catalogue(
        landing, currency="EUR", seller={**europe.SELLER, "pay_url": "https://pay.example.com/{number}"}
    )
    (landing.folder / "tax_rates.csv").write_text(europe.RATES)
    customers = [(name, COUNTRIES.get(name, "AT"), "", {"language": name}) for name in LANGUAGES]
    customers.append(("hostile", "DE", "", {"language": "de", "name": HOSTILE}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(europe, "COLUMNS", (*europe.COLUMNS, "language"))
        europe.write_accounts(landing, customers)
    for place, (name, *_) in enumerate(customers):
        landing.request(name, "subscribe", "2026-01-10T09:00:00Z", "self_service", package="starter")
        for day in range(11, 27):
            domains = 1 if day in (12, 20) else 0
            landing.use(
                name, f"2026-02-{day}", emails=900 + 7 * day, bytes=10**9 * (place + 1), leads=day, domains=domains
            )
    home = landing.root
    issued = bill_by_steps(home, "2026-02", "2026-02-12").register.documents()
    number, total = issued.filter(pl.col("account_id") == "de").sort("number").select("number", "total").row(0)
    landing.pay("de", number, f"{total:.2f}", "2026-02-11T10:00:00Z")
    payments = landing.folder / "payments.jsonl"
    payments.write_text(payments.read_text().replace("USD", "EUR"))
    for path, account in issued.select(
        path=pl.format("documents/{}/{}.pdf", "billing_month", "number"), a="account_id"
    ).iter_rows():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_bytes(f"PDF of {account}".encode())
    return bill_by_steps(home, "2026-02", "2026-02-28")


@pytest.fixture(scope="module")
def bills(business: Business) -> NextBills:
    return next_bills(business, business.as_of)


@pytest.fixture(scope="module")
def portal(business: Business, bills: NextBills) -> dict[str, Path]:
    """The folder of each account's page."""
    assert write_portal_pages(business, bills) == len(LANGUAGES) + 1
    return {account: business.home.profiles / token for account, token in business.register.profile_tokens().items()}


def everything(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_page_has_words_for_whatever_falls_due() -> None:
    assert set(LINES) == {*SCHEDULED, ""}
    for language in LANGUAGES[1:]:
        said = words(language, OTHERS)
        assert all(said.gettext(message) != message for message in LINES.values())


def test_documents_bear_the_day_that_stands_on_them(portal: dict[str, Path], business: Business) -> None:
    """Not the billing date: a customer compares the page with the PDF."""
    documents = business.register.documents().filter(pl.col("account_id") == "de")
    assert set(documents["issued_on"].cast(pl.String)) == {"2026-02-12"}
    assert set(documents["billing_date"].cast(pl.String)) == {"2026-01-10", "2026-02-10"}
    text = unescape((portal["de"] / "index.html").read_text()).replace("\N{NO-BREAK SPACE}", " ")
    assert text.count("Rechnung vom 12. Februar 2026") == 2
    assert "am 12. Februar 2026" in text and "Januar 2026" not in text


def test_what_a_next_bill_is_made_of_adds_up_to_its_amount(business: Business, bills: NextBills) -> None:
    assert bills.profiles.equals(account_profiles(business, business.as_of))
    parts = pl.concat([bills.lines.select("account_id", "amount"), bills.taxes.select("account_id", "amount")])
    found = dict(parts.group_by("account_id").agg(pl.col("amount").sum()).iter_rows())
    assert found == dict(bills.profiles.select("account_id", "upcoming_amount").iter_rows())
    assert min(found.values()) > 0


def test_the_days_of_a_counter_add_up_to_its_usage_and_a_peak_is_the_highest_day(bills: NextBills) -> None:
    usage = bills.profiles.select("account_id", "usage").explode("usage").unnest("usage")
    days = bills.days.group_by("account_id", "metric").agg(
        total=pl.col("quantity").sum(), highest=pl.col("quantity").max()
    )
    both = usage.join(days, on=["account_id", "metric"], how="left")
    assert both.height == both["highest"].count() == 4 * (len(LANGUAGES) + 1)
    is_counter = pl.col("metric").is_in(["emails", "bandwidth"])
    assert both.filter(is_counter, pl.col("quantity") != pl.col("total")).is_empty()
    assert both.filter(~is_counter, pl.col("quantity") != pl.col("highest")).is_empty()
    assert both.filter(pl.col("quantity") <= 0).is_empty()


def test_paths_cannot_be_guessed_and_stay_the_same_over_runs_with_the_same_bytes(
    business: Business, bills: NextBills, portal: dict[str, Path]
) -> None:
    assert all(re.fullmatch("[0-9a-f]{32}", folder.name) for folder in portal.values())
    assert len({folder.name for folder in portal.values()}) == len(LANGUAGES) + 1
    before = everything(business.home.profiles)
    assert write_portal_pages(business, bills) == 0
    shutil.rmtree(portal["de"])
    assert write_portal_pages(business, bills) == 1
    assert everything(business.home.profiles) == before


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_page_speaks_the_customers_language(portal: dict[str, Path], language: str) -> None:
    page = (portal[language] / "index.html").read_text()
    heading, day = HEADINGS[language]
    said = unescape(page).replace("\N{NO-BREAK SPACE}", " ")
    assert f'<html lang="{language}"' in page and heading in said
    assert language == "en" or day in said
    english = unescape((portal["en"] / "index.html").read_text())
    headings = re.findall("<h2[^>]*>(.*?)</h2>", english)
    assert len(headings) >= 4 and (language == "en" or not [each for each in headings if f">{each}<" in said])


def test_a_page_shows_nothing_of_another_account(portal: dict[str, Path], business: Business) -> None:
    documents = business.register.documents()
    names = {name: f"Muster & Söhne {name.upper()} <1>" for name in LANGUAGES}
    for account, folder in portal.items():
        page = unescape((folder / "index.html").read_text())
        own = set(documents.filter(pl.col("account_id") == account)["number"])
        assert set(re.findall(r"INV-2026-\d+", page)) == own != set()
        assert not [name for other, name in names.items() if other != account and name in page]
        assert not [other.name for other in portal.values() if other != folder and other.name in page]
        copies = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".pdf"}
        assert {name.removesuffix(".pdf") for name in copies} <= own
        assert set(copies.values()) == {f"PDF of {account}".encode()}


def test_a_page_needs_nothing_but_its_folder(portal: dict[str, Path]) -> None:
    for folder in portal.values():
        page = (folder / "index.html").read_text()
        links = re.findall(r'(?:href|src)="([^"]*)"', page)
        assert [link for link in links if not link.startswith(("https://", "mailto:"))] != []
        assert all((folder / link).is_file() for link in links if not link.startswith(("https://", "mailto:")))
        assert "<script" not in page and "default-src 'none'" in page
        assert 'content="noindex' in page and 'name="referrer" content="no-referrer"' in page


def test_a_run_that_does_not_issue_draws_no_link(business: Business, bills: NextBills, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(business.home.landing, home / "landing")
    draft = Business.load(home, business.as_of, issues=False)
    assert write_portal_pages(draft, bills) == 0
    assert not (home / "profiles").exists() and not (home / "register.db").exists()


def test_a_renewed_link_leaves_nothing_at_the_former_path(
    business: Business, bills: NextBills, portal: dict[str, Path]
) -> None:
    folder, kept = portal["it"], everything(portal["it"])
    renew_link(business, "it")
    path, stands = link_of(business, "it")
    assert path is not None and stands and not folder.exists()
    moved = (business.home.root / path).parent
    assert everything(moved) == kept
    assert write_portal_pages(business, bills) == 0
    # A run was killed between the register and the folder, and a page was written at the new path meanwhile.
    business.register.renew_profile_token("it")
    assert write_portal_pages(business, bills) == 0 and not moved.exists()
    shutil.copytree(business.home.root / str(link_of(business, "it")[0]).removesuffix("/index.html"), folder)
    finish_renewals(business)
    assert not folder.exists() and link_of(business, "it")[1]


def test_an_address_is_said_where_pages_are_published() -> None:
    path = f"profiles/{'0' * 32}/index.html"
    assert address_of(path, "") == path
    for base in ("https://billing.example.com/a", "https://billing.example.com/a/"):
        assert address_of(path, base) == f"https://billing.example.com/a/{'0' * 32}/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Chromium is missing in CI")
        pytest.skip("Chromium is not installed: the pages are not tried")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield opened
        opened.close()


WCAG_AA = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
"""The rules that axe-core has for WCAG 2.2, levels A and AA: contrast, names, languages, keyboard, and more."""


def opened_page(
    browser: Browser, address: Path, width: int, scheme: str, *, is_examined: bool = False
) -> tuple[Page, list[str]]:
    """A page, and what it asked for or complained of; its own policy lets no script in that examines it."""
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme=scheme,  # type: ignore[arg-type]
        bypass_csp=is_examined,
    )
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: said.append(request.url))
    page.goto(address.as_uri())
    return page, said


LOOKS = [
    (account, width, scheme)
    for account in ("de", "ja", "hostile")
    for width in (320, 1200)
    for scheme in ("light", "dark")
]


# In a usual run a look each, of the hostile name both widths.
@pytest.mark.parametrize(("account", "width", "scheme"), sized(usual=[*LOOKS[1::5], LOOKS[8]], long=LOOKS))
def test_a_page_fits_a_phone_and_can_be_read_in_light_and_dark(
    browser: Browser, portal: dict[str, Path], account: str, width: int, scheme: str
) -> None:
    address = portal[account] / "index.html"
    page, said = opened_page(browser, address, width, scheme)
    page.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert said == [address.as_uri()], "a page asks for nothing and breaks no rule of its own policy"
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(ids) == len(set(ids))
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_break_no_rule_of_accessibility(
    browser: Browser, portal: dict[str, Path], business: Business, bills: NextBills, scheme: str
) -> None:
    write_profile_pages(business, bills.profiles, {})
    accounts = ("de", "ja", "hostile") if sizes.LONG or scheme == "light" else ("de",)
    own = [portal[account] / "index.html" for account in accounts]
    of_finance = [business.home.profiles / name for name in ("index.html", page_name("de"))]
    for address in [*own, *of_finance]:
        page, _ = opened_page(browser, address, 390, scheme, is_examined=True)
        for each in page.locator("summary").all():
            each.click()
        found = Axe().run(page, options=WCAG_AA).response["violations"]
        assert [(rule["id"], node["html"]) for rule in found for node in rule["nodes"]] == [], address
        page.context.close()


def test_a_page_is_used_by_keyboard_alone(browser: Browser, portal: dict[str, Path]) -> None:
    page, _ = opened_page(browser, portal["de"] / "index.html", 320, "light")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"
    assert not page.get_by_role("region", name="Verbrauch je Tag", exact=True).locator("table").is_visible()
    page.keyboard.press("Enter")
    assert page.get_by_role("region", name="Verbrauch je Tag", exact=True).locator("table").is_visible()
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.getAttribute('href') || document.activeElement.tagName"))
    expected = page.evaluate("[...document.querySelectorAll('a')].map((each) => each.getAttribute('href'))")
    assert reached[0] == "DIV" and reached[1 : len(expected) + 1] == expected
    page.context.close()
