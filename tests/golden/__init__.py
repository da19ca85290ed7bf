"""Homes that earlier versions billed: each later version opens, verifies, previews and bills on from them.

A released version adds one: `python -m tests.golden VERSION` writes `tests/golden/VERSION.tar.xz`.
"""
