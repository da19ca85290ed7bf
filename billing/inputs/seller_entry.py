"""Reader of the catalogue's `seller` (rule 40)."""

import re
from pathlib import Path
from typing import Final

from stdnum import bic as bics
from stdnum import iban as ibans
from stdnum.exceptions import ValidationError

from billing.inputs.yaml_reader import Place
from billing.model.seller import Bank, Contact, Identifier, Seller, read_identifier

_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")
_ACCENT: Final = re.compile(r"#[0-9a-fA-F]{6}")
_PAY_URL: Final = re.compile(r"https://[A-Za-z0-9.-]+(:\d+)?/[\w./%~+?=&#{}-]*", re.ASCII)
_LONGEST_FOOTER: Final = 6


def read_seller(place: Place) -> Seller:
    """Read the seller; its logo, a file of the landing folder, is looked at when documents are about to be drawn."""
    place.keys(
        required=("name", "country"),
        optional=(
            "address",
            "street",
            "city",
            "postal_code",
            "region",
            "tax_id",
            "tax_number",
            "registration",
            "electronic_address",
            "contact",
            "support_email",
            "billing_policy_url",
            "logo",
            "bank",
            "pay_url",
            "profile_url",
            "footer",
            "colours",
            "language",
        ),
    )
    address = tuple(item.text("") for item in place.at("address").items())
    street = _text(place, "street")
    if not place.has("address") and not street:
        place.problem("an `address` (a list of lines), or `street`, `city` and `postal_code`", found="none")
    footer = tuple(item.text("") for item in place.at("footer").items())
    if len(footer) > _LONGEST_FOOTER:
        place.at("footer").problem(f"at most {_LONGEST_FOOTER} lines", found=f"{len(footer)} lines")
    pay_url = _text(place, "pay_url")
    if pay_url and (not _PAY_URL.fullmatch(pay_url) or re.sub(r"\{number\}", "", pay_url).count("{")):
        place.at("pay_url").problem("an address such as https://pay.example.com/{number}")
        pay_url = ""
    profile_url = _text(place, "profile_url")
    if profile_url and (not _PAY_URL.fullmatch(profile_url) or "{" in profile_url):
        place.at("profile_url").problem("an address such as https://billing.example.com/accounts")
        profile_url = ""
    return Seller(
        name=place.at("name").text(""),
        address=address,
        country=place.at("country").country(),
        tax_id=_text(place, "tax_id"),
        support_email=_text(place, "support_email"),
        billing_policy_url=_text(place, "billing_policy_url"),
        street=street,
        city=_text(place, "city"),
        postal_code=_text(place, "postal_code"),
        region=_text(place, "region"),
        registration=_registration(place.at("registration")),
        tax_number=_text(place, "tax_number"),
        contact=_contact(place.at("contact")),
        logo=_logo(place),
        bank=_bank(place.at("bank")),
        pay_url=pay_url,
        footer=footer,
        electronic_address=_electronic_address(place.at("electronic_address")),
        accent=_accent(place.at("colours")),
        language=_language(place),
        profile_url=profile_url,
    )


def _text(place: Place, key: str) -> str:
    return place.at(key).text("", empty=True)


def _registration(place: Place) -> Identifier | None:
    if not place.has_value() or place.is_null():
        return None
    place.keys(required=("id",), optional=("scheme",))
    scheme = _text(place, "scheme")
    if scheme and not re.fullmatch("[0-9]{4}", scheme):
        place.at("scheme").problem('the four digits of a scheme of ISO 6523, such as "0002"')
    return Identifier(scheme, place.at("id").text(""))


def _contact(place: Place) -> Contact | None:
    if not place.has_value() or place.is_null():
        return None
    place.keys(required=("name",), optional=("phone", "email"))
    return Contact(place.at("name").text(""), _text(place, "phone"), _text(place, "email"))


def _bank(place: Place) -> Bank | None:
    if not place.has_value() or place.is_null():
        return None
    place.keys(required=("iban",), optional=("holder", "bic"))
    iban, bic = place.at("iban").text("", empty=True), _text(place, "bic")
    try:
        iban = ibans.validate(iban)
    except ValidationError:
        place.at("iban").problem("an IBAN that is valid in form and checksum")
    try:
        bic = bics.validate(bic) if bic else ""
    except ValidationError:
        place.at("bic").problem("a BIC of 8 or 11 characters")
    return Bank(_text(place, "holder"), iban, bic)


def _logo(place: Place) -> str:
    logo = _text(place, "logo")
    if logo and (Path(logo).is_absolute() or ".." in Path(logo).parts):
        place.at("logo").problem("the name of a file in the landing folder")
        return ""
    return logo


def _electronic_address(place: Place) -> Identifier | None:
    text = place.text("", empty=True)
    found = read_identifier(text)
    if text and found is None:
        place.problem('a scheme of four digits and an id, such as "9930:DE123456789"')
    return found


def _accent(place: Place) -> str:
    place.keys(required=(), optional=("accent",))
    accent = _text(place, "accent")
    if accent and not _ACCENT.fullmatch(accent):
        place.at("accent").problem('a colour such as "#1f4ed8"')
        return ""
    return accent.lower()


def _language(place: Place) -> str:
    language = place.at("language").written("") if place.has("language") else ""
    if language and not _LANGUAGE.fullmatch(language):
        place.at("language").problem("the tag of a language (BCP 47), such as de")
        return ""
    return language
