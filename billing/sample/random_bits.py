"""Deterministic random numbers: a pure function of key, seed and purpose."""

import hashlib
from collections.abc import Sequence

import polars as pl


def draw_bits(key: pl.Series, seed: int, purpose: str) -> pl.Series:
    """Return 64 random bits per key, distinct for distinct keys within a purpose: usable as ids."""
    offset = int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8], "big")
    bits = key.cast(pl.UInt64) * _u64(0x9E3779B97F4A7C15) + _u64(offset)
    bits = (bits ^ (bits // 2**30)) * _u64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits // 2**27)) * _u64(0x94D049BB133111EB)
    return bits ^ (bits // 2**31)


def _u64(value: int) -> pl.Series:
    return pl.Series([value], dtype=pl.UInt64)


def pick(choices: Sequence[str | None], bits: pl.Series) -> pl.Series:
    """Return one choice per row, uniformly distributed."""
    return pl.Series(choices, dtype=pl.String).gather((bits % len(choices)).cast(pl.UInt32))


def _normal(key: pl.Series, seed: int, purpose: str) -> pl.Series:
    """Return normally distributed numbers: sums of twelve 16-bit integers, exact until the last division."""
    total = pl.zeros(key.len(), dtype=pl.Int64, eager=True)
    for part in range(3):
        bits = draw_bits(key, seed, f"{purpose}/{part}")
        for position in range(4):
            total = total + (bits // 2 ** (16 * position) % 2**16).cast(pl.Int64)
    return (total - 6 * 2**16).cast(pl.Float64) / 2**16


def log_normal(key: pl.Series, seed: int, purpose: str, sigma: float) -> pl.Series:
    """Return log-normal factors with median 1, rounded to six decimals: independent of the last bit of `exp`."""
    return (_normal(key, seed, purpose) * sigma).exp().round(6)
