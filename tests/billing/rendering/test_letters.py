"""Mails, reminders and statements in every language: the words of that language, and nothing of another."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from billing.rendering.fonts import TEMPLATES
from billing.rendering.letters import reminder_mail, reminder_pdf, statement_pdf
from billing.rendering.mails import document_mail
from billing.rendering.words import LANGUAGES, OTHERS, words
from tests.rich_documents import LOGO

SAMPLE: Mapping[str, Any] = json.loads((TEMPLATES / "sample_v2.json").read_text("utf-8"))
TITLES = {
    "en": ("Payment reminder", "Overdue notice", "Final demand for payment"),
    "de": ("Zahlungserinnerung", "Mahnung", "Letzte Mahnung"),
    "fr": ("Rappel de paiement", "Relance", "Mise en demeure"),
    "es": ("Recordatorio de pago", "Requerimiento de pago", "Último requerimiento de pago"),
    "it": ("Promemoria di pagamento", "Sollecito di pagamento", "Messa in mora"),
    "nl": ("Betalingsherinnering", "Aanmaning", "Laatste aanmaning"),
    "pt": ("Lembrete de pagamento", "Aviso de pagamento em atraso", "Último aviso de pagamento"),
    "pl": ("Przypomnienie o płatności", "Wezwanie do zapłaty", "Ostateczne wezwanie do zapłaty"),
    "ja": ("お支払いのお願い", "督促状", "最終督促状"),
}


def common(language: str) -> dict[str, Any]:
    return {
        "language": language,
        "locale": "",
        "currency": "EUR",
        "minor_units": 2,
        "seller": SAMPLE["seller"],
        "customer": SAMPLE["customer"],
    }


def reminder(language: str, title: str = "first", fee: str = "0.00", name: str = "Acme") -> str:
    document = {"number": "INV-2026-000042", "issued_on": "2026-02-10", "due_on": "2026-02-24"}
    content = common(language) | {
        "customer": {**SAMPLE["customer"], "name": name},
        "on": "2026-04-01",
        "title": title,
        "amount": "433.00",
        "fee": fee,
        "documents": [document | {"days": "36", "open": "433.00"}],
    }
    return json.dumps(content)


def statement(language: str) -> dict[str, Any]:
    kinds = ("opening_balance", "invoice", "debit_note", "credit_note", "payment", "refund", "dispute")
    return common(language) | {
        "from": "2026-01-01",
        "to": "2026-04-01",
        "opening": "0.00",
        "closing": "70.00",
        "movements": [
            {
                "kind": kind,
                "number": f"N-{place}",
                "date": "2026-02-10",
                "due_on": None,
                "amount": "10.00",
                "balance": "10.00",
            }
            for place, kind in enumerate(kinds)
        ],
        "aging": dict.fromkeys(("not_due", "1_to_30", "31_to_60", "61_to_90", "over_90"), "14.00"),
    }


def text_of(pdf: bytes, folder: Path) -> str:
    path = folder / "page.pdf"
    path.write_bytes(pdf)
    done = subprocess.run(["pdftotext", "-layout", str(path), "-"], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("language", LANGUAGES)
def test_letters_are_in_their_language(language: str, tmp_path: Path) -> None:
    said = words(language, OTHERS)
    mail = document_mail({**SAMPLE, "language": language, "locale": ""})
    assert said.gettext("Kind regards") in mail.text and said.gettext("Kind regards") in mail.html
    assert "INV-2026-000042" in mail.subject and mail.language == language
    titles = [said.gettext(title) for title in TITLES["en"]]
    assert tuple(titles) == TITLES[language]
    for kind, title in zip(("first", "further", "final"), titles, strict=True):
        assert title in reminder_mail(reminder(language, kind)).subject
    page = text_of(reminder_pdf(reminder(language, "final", "5.00")), tmp_path)
    assert "".join(titles[2].split()) in "".join(page.split())
    moved = text_of(statement_pdf(statement(language)), tmp_path)
    assert "N-6" in moved
    if language != "en":
        assert not {"Payment reminder", "Balance", "Refund", "overdue", "Questions", "Kind"} & set(
            f"{page} {moved} {mail.text}".replace(":", " ").split()
        )


def test_letters_and_mails_bear_the_footer_that_law_wants_on_business_letters(tmp_path: Path) -> None:
    seller = {**SAMPLE["seller"], "footer": ["Amtsgericht Musterstadt HRB 42 <b>", "Geschäftsführung: M. Muster"]}
    content = json.loads(reminder("de")) | {"seller": seller}
    for page in (reminder_pdf(json.dumps(content)), statement_pdf(statement("de") | {"seller": seller})):
        text = text_of(page, tmp_path)
        assert all(line in text for line in seller["footer"])
        assert "Musterstadt HRB 42 <b>\n" in text
    for mail in (reminder_mail(json.dumps(content)), document_mail({**SAMPLE, "seller": seller})):
        assert mail.text.endswith("\n".join(["", *seller["footer"], ""]))
        assert "HRB 42 &lt;b&gt;<br>Geschäftsführung" in mail.html
    long = {"seller": {**seller, "footer": ["Amtsgericht " * 30] * 3}}
    assert text_of(reminder_pdf(json.dumps(content | long)), tmp_path).count("Amtsgericht") == 90
    without = {**SAMPLE["seller"], "footer": []}
    assert document_mail({**SAMPLE, "seller": without}).text.endswith(f"{without['name']}\n")


def test_letters_bear_the_logo() -> None:
    content = reminder("de")
    plain, drawn = reminder_pdf(content), reminder_pdf(content, logo=LOGO)
    assert plain != drawn == reminder_pdf(content, logo=LOGO)
    assert statement_pdf(statement("fr")) != statement_pdf(statement("fr"), logo=LOGO)


def test_a_letter_has_the_same_bytes_each_time() -> None:
    assert reminder_pdf(reminder("de")) == reminder_pdf(reminder("de"))


@pytest.mark.parametrize("name", ["<script>alert(1)</script> & Co", "شركة الاختبار", "x" * 300, "株式会社テスト"])
def test_hostile_and_long_names_are_text(name: str) -> None:
    assert reminder_pdf(reminder("en", name=name)).startswith(b"%PDF")
    assert "<script>" not in reminder_mail(reminder("en", name=name)).html


@pytest.mark.parametrize(
    ("change", "said", "is_asked"),
    [
        ({"kind": "invoice"}, "Please pay EUR", True),
        ({"kind": "debit_note"}, "debit note", True),
        ({"kind": "invoice", "due": "0.00"}, "There is nothing to pay.", False),
        ({"kind": "credit_note", "total": "-12.00", "due": "-12.00"}, "EUR 12.00 is credited to you", False),
        ({"kind": "invoice", "due_on": "2026-02-10"}, "is due now", True),
    ],
)
def test_a_mail_says_what_is_to_be_done(change: dict[str, str], said: str, is_asked: bool) -> None:
    text = document_mail({**SAMPLE, **change}).text.replace("\N{NO-BREAK SPACE}", " ")
    assert said in text
    assert ("https://pay.example.com" in text) == is_asked
