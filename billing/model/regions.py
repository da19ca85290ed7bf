"""Regions of countries, matched by code or by name in any spelling (rule 24)."""

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

import polars as pl

from billing.model.empty_frames import skip_if_empty


def region_key(country: str, region: str) -> str:
    """Canonical key of a region: `qc`, `CA-QC`, `Quebec` and `Québec` of CA are `QC`.

    Codes and names are from ISO 3166-2. An unknown or ambiguous name is compared by its normalized letters only.
    """
    letters = _letters(region)
    known = _regions(country)
    return known.get(letters.removeprefix(f"{country.lower()} "), known.get(letters, letters))


@skip_if_empty("frame", by=("name",))
def with_region_keys(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """Add the column `name` to `frame` (country, region): `region_key`, null without a region."""
    pairs = frame.select("country", "region").unique().drop_nulls()
    keys = [region_key(country, region) for country, region in pairs.iter_rows()]
    return frame.join(
        pairs.with_columns(pl.Series(name, keys, pl.String)),
        on=["country", "region"],
        how="left",
        maintain_order="left",
    )


@lru_cache(maxsize=256)
def _regions(country: str) -> Mapping[str, str]:
    """Region codes of a country by normalized code and name; ambiguous names are left out."""
    # Import lazily: loading the list takes a tenth of a second, and few homes have regional taxes.
    import pycountry

    codes: dict[str, str] = {}
    names: dict[str, set[str]] = {}
    for each in pycountry.subdivisions.get(country_code=country) or ():  # type: ignore[no-untyped-call] # its own
        code = each.code.partition("-")[2]
        codes[_letters(code)] = code
        # Alternative names follow in brackets or after a slash.
        for name in re.split(r"[\[\]()/]", each.name):
            names.setdefault(_letters(name), set()).add(code)
    return {name: next(iter(found)) for name, found in names.items() if len(found) == 1 and name} | codes


def _letters(text: str) -> str:
    """Normalize a text: letters and digits in lower case without accents, words separated by one blank."""
    plain = "".join(each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each))
    return " ".join(re.findall(r"\w+", plain.casefold().replace("_", " ")))
