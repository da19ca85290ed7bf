"""Elements of an XML tree, in the order in which they are added; empty ones are left out."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from lxml import etree

Element: TypeAlias = Any


class Writer:
    """Adds elements by a prefixed name, such as `cbc:ID`."""

    def __init__(self, namespaces: Mapping[str | None, str], root: str) -> None:
        """Begin a document; the prefix None is the namespace of elements without one."""
        self._names: Final[dict[str, str]] = {}
        self._namespaces = {prefix or "": uri for prefix, uri in namespaces.items()}
        self.root: Element = etree.Element(self._name(root), nsmap=dict(namespaces))

    def _name(self, name: str) -> str:
        full = self._names.get(name)
        if full is None:
            prefix, _, local = name.rpartition(":")
            full = self._names[name] = f"{{{self._namespaces[prefix]}}}{local}"
        return full

    def group(self, parent: Element, name: str) -> Element:
        """Add an element for others."""
        added: Element = etree.SubElement(parent, self._name(name))
        return added

    def text(self, parent: Element, name: str, text: str, **attributes: str) -> None:
        """Add an element with text; nothing where there is no text. Attributes without a value are left out."""
        if text:
            element = etree.SubElement(parent, self._name(name), {key: it for key, it in attributes.items() if it})
            element.text = text

    def written(self) -> bytes:
        """The document as UTF-8 without pretty spaces."""
        text: bytes = etree.tostring(self.root, xml_declaration=True, encoding="UTF-8")
        return text
