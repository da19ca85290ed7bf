"""Files of a business that its documents are drawn with: logo, template and translations, by their content."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Resources:
    """What documents issued now are drawn with; each by the SHA-256 of its bytes, None where there is none.

    Attributes
    ----------
    translations
        By language, in lower case.
    files
        The bytes, by hash.
    """

    logo: str | None = None
    template: str | None = None
    translations: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def digest(self) -> str:
        """What is there, in words; empty when nothing is."""
        named = {"logo": self.logo, "template": self.template, **self.translations}
        return ", ".join(f"{name} {value}" for name, value in sorted(named.items()) if value)
