"""What a home lacks for the law of its seller's country: the marks that documents there have to bear (rule 40)."""

import re
from typing import Final

from billing.model.seller import Seller

# Schemes of ISO 6523, by the country whose law asks for the number on every document.
_REGISTRATIONS: Final = {
    "BE": (("0208",), "the enterprise number, 0208:... (Code des sociétés 2:20)"),
    "FR": (("0002", "0009"), "the SIREN, 0002:... (Code de commerce R123-237)"),
    "NL": (("0106",), "the KvK number, 0106:... (Handelsregisterwet 27)"),
}
_FOOTERS: Final = {
    "AT": "legal form, seat and Firmenbuch number (UGB 14)",
    "BE": "legal form, seat, RPM/RPR and court (Code des sociétés 2:20)",
    "DE": "legal form, seat, register court and number, managing directors (GmbHG 35a, HGB 37a)",
    "ES": "entry in the Registro Mercantil (Código de Comercio 24)",
    "FR": "legal form, capital, RCS, rate of late fees and the 40 euros for recovery (Code de commerce L441-9)",
    "GB": "registered name, number, office and part of the United Kingdom (Companies Regulations 2015, 24 and 25)",
    "IT": "seat, register of companies, REA number and capital (Codice civile 2250)",
}
_PLACE: Final = "catalogue.yaml: seller"


def seller_warnings(seller: Seller) -> list[str]:
    """Marks that the law of the seller's country asks for on its documents and that the catalogue lacks."""
    country = seller.country.upper()
    lacking = []
    if not seller.address and not (seller.street and seller.city):
        lacking.append(f"{_PLACE}.address: found none, expected the seller's address: documents have to bear it")
    schemes, expected = _REGISTRATIONS.get(country, ((), ""))
    if schemes and (seller.registration is None or seller.registration.scheme not in schemes):
        found = f"{seller.registration.scheme}:{seller.registration.id}" if seller.registration else "none"
        lacking.append(f"{_PLACE}.registration: found {found}, expected {expected}")
    if country in _FOOTERS and not seller.footer:
        lacking.append(f"{_PLACE}.footer: found none, expected {_FOOTERS[country]}")
    if country == "JP" and not re.fullmatch(r"T\d{13}", seller.tax_id):
        found = repr(seller.tax_id) if seller.tax_id else "none"
        expected = "T and 13 digits of a qualified invoice issuer (Consumption Tax Act 57-4)"
        lacking.append(f"{_PLACE}.tax_id: found {found}, expected {expected}")
    return lacking
