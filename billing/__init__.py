"""The business of Overage: plain functions over frames. Imports no Dagster and reads no clock.

In a notebook: `from billing import load, read_table, explain, preview, what_if` (docs/library.md).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from billing.reports.library import explain, load, preview, read_table, what_if

__version__ = "0.4.0"

__all__ = ["__version__", "explain", "load", "preview", "read_table", "what_if"]


def __getattr__(name: str) -> Any:
    # lazily: `import billing` loads no Polars
    if name in __all__:
        from billing.reports import library

        return getattr(library, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
