"""Statements of payment providers and banks, each format as the same rows."""
