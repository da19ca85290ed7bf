"""`check` names what the law of the seller's country asks for and the catalogue lacks."""

import pytest

from billing.model.seller import Identifier, Seller
from billing.reports.seller_checks import seller_warnings


def seller(country: str, **more: object) -> Seller:
    plain = Seller("Example", ("1 Example Street",), country, "", "billing@example.com", "https://example.com")
    return Seller(**{**vars(plain), **more})


@pytest.mark.parametrize(
    ("it", "expected"),
    [
        (seller("US"), []),
        (seller("US", address=()), ["seller.address: found none"]),
        (seller("US", address=(), street="1 Example Street", city="Bend"), []),
        (seller("DE"), ["seller.footer: found none, expected legal form, seat, register court"]),
        (seller("DE", footer=("HRB 42",)), []),
        (seller("FR", footer=("SAS",)), ["seller.registration: found none, expected the SIREN, 0002:..."]),
        (seller("FR", footer=("SAS",), registration=Identifier("0106", "42")), ["registration: found 0106:42"]),
        (seller("FR", footer=("SAS",), registration=Identifier("0002", "303265045")), []),
        (seller("NL", registration=Identifier("0106", "12345678")), []),
        (seller("BE"), ["seller.registration", "seller.footer"]),
        (seller("JP", tax_id="1234"), ["seller.tax_id: found '1234', expected T and 13 digits"]),
        (seller("JP", tax_id="T1234567890123"), []),
    ],
)
def test_what_a_seller_lacks_is_named(it: Seller, expected: list[str]) -> None:
    warnings = seller_warnings(it)
    assert len(warnings) == len(expected)
    assert all(part in warning for part, warning in zip(expected, warnings, strict=True))
