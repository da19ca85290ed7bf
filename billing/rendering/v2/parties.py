"""Seller and customer on paper: addresses by the custom of their country, tax ids, registrations, safe links."""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from billing.rendering.content import Fields
from billing.rendering.v2.formats import SPACE, Formats
from billing.rendering.words import Words

# Countries of the EU and its neighbours whose tax ids are those of a value added tax.
_EU: Final = (
    *("AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "EL", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT"),
    *("LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK"),
)
_VAT: Final = frozenset((*_EU, "CH", "GB", "LI", "NO", "XI"))
# How the line of the city is written; elsewhere postal code and city. A line that ends up empty is left out.
_CITY_LINES: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("US", "CA", "PR", "GU"), ("{city}, {region} {postal}",)),
    **dict.fromkeys(("AU", "NZ"), ("{city} {region} {postal}",)),
    **dict.fromkeys(("GB", "GG", "JE", "IM", "GI"), ("{city}", "{postal}")),
    "IE": ("{city}", "{region}", "{postal}"),
    "IT": ("{postal} {city} ({region})",),
    "ES": ("{postal} {city}", "{region}"),
    "MX": ("{postal} {city}, {region}",),
    "BR": ("{city} - {region}", "{postal}"),
    "IN": ("{city} {postal}", "{region}"),
    "MY": ("{postal} {city}", "{region}"),
    "SG": ("{city} {postal}",),
    "HK": ("{city}",),
    "AE": ("{city}", "{region}"),
    "JP": ("{city}, {region} {postal}",),
    "CN": ("{postal} {city}", "{region}"),
    "TW": ("{city} {postal}",),
    "KR": ("{city}, {region} {postal}",),
    "TH": ("{city} {region} {postal}",),
    "VN": ("{city} {postal}",),
    "TR": ("{postal} {city}/{region}",),
    "UA": ("{city}", "{region}", "{postal}"),
    "RU": ("{city}", "{region}", "{postal}"),
}
# Registers of companies by ISO 6523 code; the names are those of the registers, in any language.
_REGISTERS: Final = {
    "0002": "SIREN",
    "0009": "SIRET",
    "0007": "Organisationsnummer",
    "0037": "Y-tunnus",
    "0096": "P-nummer",
    "0106": "KvK",
    "0184": "CVR",
    "0183": "UID",
    "0190": "OIN",
    "0191": "Registrikood",
    "0192": "Organisasjonsnummer",
    "0199": "LEI",
    "0060": "D-U-N-S",
    "0088": "GLN",
    "0200": "Juridinio asmens kodas",
    "0208": "KBO/BCE",
    "0210": "Codice fiscale",
    "0212": "Y-tunnus",
    "0216": "OVT",
}
LONGEST_PHRASE: Final = 40
_EMPTY: Final = re.compile(r"\s*\(\s*\)|^[\s,/-]+|[\s,/-]+$|(?<=,)\s*,")


def address_lines(party: Fields, words: Words, out: Formats) -> list[str]:
    """Free lines and fields of an address, and the country's name in the document's language unless a line says it."""
    free = [line.strip() for line in party.texts("address") if line.strip()] if party.holds("address") else []
    code = party.optional("country").upper()
    lines = [*free, *(line for line in _fields(party, code, words) if line.casefold() not in _folded(free))]
    country = out.country(code) if code else ""
    if not country or {country.casefold(), code.casefold()} & _folded(lines):
        return lines
    return [*lines, country]


def _fields(party: Fields, code: str, words: Words) -> list[str]:
    street, more = party.optional("street").strip(), party.optional("line2").strip()
    parts = {
        "city": party.optional("city").strip(),
        "region": party.optional("region").strip(),
        "postal": party.optional("postal_code").strip(),
    }
    if code == "JP" and words.language.split("-")[0] == "ja":
        postal = f"〒{parts['postal']}" if parts["postal"] else ""
        place = f"{parts['region']}{parts['city']}{street}"
        return [line for line in (postal, place, more) if line]
    # Elsewhere a region is a code for tax; one that is a name is printed.
    templates = _CITY_LINES.get(code) or (
        ("{postal} {city}", "{region}") if len(parts["region"]) > 3 else ("{postal} {city}",)
    )
    city = [_EMPTY.sub("", " ".join(template.format_map(parts).split())) for template in templates]
    return [line for line in (street, more, *city) if line]


def _folded(lines: Sequence[str]) -> set[str]:
    return {line.strip().casefold() for line in lines}


def tax_ids(party: Fields, words: Words) -> list[str]:
    """The party's tax id and, of a seller, its tax number, each with what it is called."""
    said = []
    country, tax_id, number = (party.optional(key).strip() for key in ("country", "tax_id", "tax_number"))
    if tax_id and country.upper() == "JP":
        said.append(words.gettext("Qualified invoice issuer registration number {number}", number=tax_id))
    elif tax_id and country.upper() in _VAT:
        said.append(words.gettext("VAT ID {number}", number=tax_id))
    elif tax_id:
        said.append(words.gettext("Tax ID {number}", number=tax_id))
    if number:
        said.append(words.gettext("Tax number {number}", number=number))
    # A name and its number stay on one line.
    return [text.replace(" ", SPACE) if len(text) <= LONGEST_PHRASE else text for text in said]


def registration(party: Fields, words: Words) -> str:
    """The entry in a register of companies, by the register's name where its code is known."""
    if not party.holds("registration"):
        return ""
    entry = party.fields("registration")
    name, number = _REGISTERS.get(entry.optional("scheme"), ""), entry.optional("id").strip()
    if name and number:
        return f"{name} {number}"
    return words.gettext("Company registration {number}", number=number) if number else ""


def mail_link(address: str) -> str:
    """A link to write to an address, only if it is safe beyond doubt; otherwise the page shows plain text."""
    return f"mailto:{address}" if re.fullmatch(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", address, re.ASCII) else ""


def page_link(address: str) -> str:
    """A link to a page, only if it is safe beyond doubt."""
    plain = re.fullmatch(r"https?://[\w.-]+(:\d+)?(/[\w./%~+?=&#-]*)?", address, re.ASCII)
    return address if plain else ""


def pay_address(seller: Fields, number: str) -> str:
    """The page where the document is paid; its number is put in encoded."""
    return seller.optional("pay_url").replace("{number}", quote(number, safe=""))
