"""PDF/A-3 with an e-invoice in it (Factur-X, ZUGFeRD): what WeasyPrint is told, and what is put right afterwards."""

from datetime import datetime
from typing import Any, Final

FILE: Final = "factur-x.xml"
_RELATIONSHIP: Final = "Alternative"
_END: Final = b"</rdf:RDF>"
_PROPERTIES: Final = {
    "DocumentFileName": (FILE, "name of the embedded XML invoice file"),
    "DocumentType": ("INVOICE", "INVOICE"),
    "Version": ("1.0", "version of the Factur-X XML schema"),
    "ConformanceLevel": ("EN 16931", "conformance level of the embedded Factur-X data"),
}
_NAMESPACE: Final = "urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#"


def hybrid_options(xml: bytes, issued_on: str) -> dict[str, Any]:
    """Options of WeasyPrint's `write_pdf` for a PDF/A-3b with the e-invoice, dated by its day of issue."""
    from weasyprint import Attachment

    # Without dates the file would say when it was drawn.
    day = datetime.fromisoformat(issued_on)
    attachment = Attachment(
        string=xml, name=FILE, description="Factur-X", created=day, modified=day, relationship=_RELATIONSHIP
    )
    return {"pdf_variant": "pdf/a-3b", "attachments": [attachment], "finisher": _finish}


def _finish(document: object, pdf: Any) -> None:
    """Name the file once in /AF, as XML whatever the machine calls it, and put its properties into the one RDF."""
    pdf.catalog["AF"] = type(pdf.catalog["AF"])(dict.fromkeys(pdf.catalog["AF"]))
    for entry in pdf.objects:
        if getattr(entry, "extra", {}).get("Type") == "/EmbeddedFile":
            entry.extra["Subtype"] = "/text#2fxml"
    metadata = pdf.objects[int(str(_text(pdf.catalog["Metadata"])).split()[0])]
    (packet,) = metadata.stream
    if packet.count(_END) != 1:
        raise ValueError("found other metadata in the PDF than one RDF, expected one to put the e-invoice's into")
    metadata.stream = [packet.replace(_END, _descriptions() + _END)]


def _text(reference: bytes | str) -> str:
    return reference.decode() if isinstance(reference, bytes) else reference


def _descriptions() -> bytes:
    """The properties of Factur-X, and the schema of them that PDF/A wants."""
    values = "".join(f"<fx:{name}>{value}</fx:{name}>" for name, (value, _) in _PROPERTIES.items())
    schema = "".join(
        f'<rdf:li rdf:parseType="Resource"><pdfaProperty:name>{name}</pdfaProperty:name>'
        "<pdfaProperty:valueType>Text</pdfaProperty:valueType><pdfaProperty:category>external</pdfaProperty:category>"
        f"<pdfaProperty:description>{description}</pdfaProperty:description></rdf:li>"
        for name, (_, description) in _PROPERTIES.items()
    )
    return (
        f'<rdf:Description xmlns:fx="{_NAMESPACE}" rdf:about="">{values}</rdf:Description>'
        '<rdf:Description xmlns:pdfaExtension="http://www.aiim.org/pdfa/ns/extension/"'
        ' xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#"'
        ' xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#" rdf:about=""><pdfaExtension:schemas><rdf:Bag>'
        '<rdf:li rdf:parseType="Resource"><pdfaSchema:schema>Factur-X PDFA Extension Schema</pdfaSchema:schema>'
        f"<pdfaSchema:namespaceURI>{_NAMESPACE}</pdfaSchema:namespaceURI><pdfaSchema:prefix>fx</pdfaSchema:prefix>"
        f"<pdfaSchema:property><rdf:Seq>{schema}</rdf:Seq></pdfaSchema:property></rdf:li></rdf:Bag>"
        "</pdfaExtension:schemas></rdf:Description>"
    ).encode()
