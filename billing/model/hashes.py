"""Hashes of document contents."""

import hashlib

import polars as pl


def hash_content(content: str) -> str:
    """SHA-256 of a document's content."""
    return hashlib.sha256(content.encode()).hexdigest()


def hash_contents(contents: pl.Series) -> pl.Series:
    """As `hash_content`, of many: content_hash."""
    # a kernel that hashes text is not there; as bytes at least no text is made and encoded again for each
    return pl.Series("content_hash", [hashlib.sha256(each).hexdigest() for each in contents.cast(pl.Binary)], pl.String)
