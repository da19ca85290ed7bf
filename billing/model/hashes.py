"""Hashes of document contents."""

import hashlib

import polars as pl


def hash_content(content: str) -> str:
    """SHA-256 of a document's content."""
    return hashlib.sha256(content.encode()).hexdigest()


def hash_contents(contents: pl.Series) -> pl.Series:
    """SHA-256 of many contents: the series content_hash; see `hash_content`."""
    # Polars has no SHA-256 kernel: cast to bytes to avoid a decode and encode per row.
    return pl.Series("content_hash", [hashlib.sha256(each).hexdigest() for each in contents.cast(pl.Binary)], pl.String)
