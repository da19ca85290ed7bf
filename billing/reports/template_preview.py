"""A sample document as a home would issue it: its seller, logo, words and template."""

from dataclasses import asdict
from typing import Any, Final

from billing.inputs.catalogue_file import load_catalogue
from billing.model.errors import RefusedError
from billing.model.seller import Seller
from billing.rendering.preview import Preview, preview
from billing.store.home import Home

_OF_CONTENT: Final = (
    *("name", "street", "city", "postal_code", "region", "country", "tax_id", "tax_number"),
    *("support_email", "billing_policy_url", "pay_url", "accent"),
)


def home_preview(home: Home, *, language: str, kind: str, as_html: bool) -> Preview:
    """As `preview`, with the seller and the logo of the home's catalogue; the sample's where it has none to read."""
    seller, logo = _seller(home)
    return preview(home.landing, language=language, kind=kind, as_html=as_html, seller=seller, logo=logo)


def _seller(home: Home) -> tuple[dict[str, Any] | None, bytes | None]:
    try:
        seller = load_catalogue(home.landing / "catalogue.yaml").seller
    except (RefusedError, OSError):
        return None, None
    return _content_of(seller), (home.landing / seller.logo).read_bytes() if seller.logo else None


def _content_of(seller: Seller) -> dict[str, Any]:
    """The seller as a document's content has it."""
    nested = {name: getattr(seller, name) for name in ("registration", "electronic_address", "contact", "bank")}
    return {
        **{name: getattr(seller, name) for name in _OF_CONTENT},
        **{name: None if value is None else asdict(value) for name, value in nested.items()},
        "address": list(seller.address),
        "footer": list(seller.footer),
    }
