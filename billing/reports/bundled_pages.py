"""Pages for a browser from the templates of the bundle: read them, and make what renders them."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def bundled_texts(names: Sequence[str]) -> dict[str, str]:
    """The templates and style sheets of the bundle with these names."""
    return {name: files("invoice_templates").joinpath(name).read_text("utf-8") for name in names}


def page_environment(texts: Mapping[str, str]) -> "Environment":
    """What renders templates: sandboxed, escaping, and refusing names that are not there."""
    from jinja2 import FunctionLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(
        loader=FunctionLoader(texts.__getitem__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
