"""A sample document as a home would issue it: its seller, logo, words and template."""

from dataclasses import asdict
from typing import Any, Final

from billing.inputs.catalogue_file import load_catalogue
from billing.model.errors import RefusedError
from billing.model.seller import Seller
from billing.month.resources import read_logo, translations
from billing.rendering.preview import Preview, preview
from billing.rendering.words import LANGUAGES
from billing.store.home import Home

_OF_CONTENT: Final = (
    *("name", "street", "city", "postal_code", "region", "country", "tax_id", "tax_number"),
    *("support_email", "billing_policy_url", "pay_url", "accent"),
)


def home_preview(home: Home, *, language: str | None, kind: str, as_html: bool) -> Preview:
    """As `preview`, with the seller and the logo of the home's catalogue; the sample's where it has none to read.

    Parameters
    ----------
    language
        None means that of the seller, else English.

    Raises
    ------
    RefusedError
        When neither the release nor the home has words of `language`.
    ContentError
        When the logo cannot be used.
    """
    seller = _seller(home)
    own = {path.stem.replace("_", "-").lower() for path in translations(home.landing)}
    if language and not {language.lower(), language.lower().split("-")[0]} & {*LANGUAGES, *own}:
        expected = f"one of {', '.join(LANGUAGES)}, or a catalogue landing/translations/{language}.po"
        raise RefusedError(f"--language: found {language!r}, expected {expected}")
    return preview(
        home.landing,
        language=language or (seller.language if seller else "") or "en",
        kind=kind,
        as_html=as_html,
        seller=_content_of(seller) if seller else None,
        logo=read_logo(home.landing / seller.logo) if seller and seller.logo else None,
    )


def _seller(home: Home) -> Seller | None:
    try:
        return load_catalogue(home.landing / "catalogue.yaml").seller
    except (RefusedError, OSError):
        return None


def _content_of(seller: Seller) -> dict[str, Any]:
    """The seller as a document's content has it."""
    nested = {name: getattr(seller, name) for name in ("registration", "electronic_address", "contact", "bank")}
    return {
        **{name: getattr(seller, name) for name in _OF_CONTENT},
        **{name: None if value is None else asdict(value) for name, value in nested.items()},
        "address": list(seller.address),
        "footer": list(seller.footer),
    }
