"""Regions of countries, told by code or by name in any spelling of letters (rule 24)."""

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

import polars as pl


def region_key(country: str, region: str) -> str:
    """What two spellings of a region have in common: `qc`, `CA-QC`, `Quebec` and `Québec` of CA are `QC`.

    Codes and names are those of ISO 3166-2. A name that several regions of the country have, or that is unknown there,
    is compared by its letters alone.
    """
    letters = _letters(region)
    known = _regions(country)
    return known.get(letters.removeprefix(f"{country.lower()} "), known.get(letters, letters))


def with_region_keys(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """`frame` (country, region) with the column `name`: `region_key`, null where there is no region."""
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
    """Codes of a country by the letters of codes and names; names that several have are left out."""
    # the list of all regions takes a tenth of a second to load, and few homes have regional taxes
    import pycountry

    codes: dict[str, str] = {}
    names: dict[str, set[str]] = {}
    for each in pycountry.subdivisions.get(country_code=country) or ():  # type: ignore[no-untyped-call] # its own
        code = each.code.partition("-")[2]
        codes[_letters(code)] = code
        # a second name stands in brackets, or after a stroke
        for name in re.split(r"[\[\]()/]", each.name):
            names.setdefault(_letters(name), set()).add(code)
    return {name: next(iter(found)) for name, found in names.items() if len(found) == 1 and name} | codes


def _letters(text: str) -> str:
    """Letters and digits in lower case without accents, words parted by one blank."""
    plain = "".join(each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each))
    return " ".join(re.findall(r"\w+", plain.casefold().replace("_", " ")))
