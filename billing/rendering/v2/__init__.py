"""Template version 2: pages in the customer's language, from content of version 2."""

from billing.rendering.v2.page import page_of

__all__ = ["page_of"]
