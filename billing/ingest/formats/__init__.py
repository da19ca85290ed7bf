"""Readers of usage files, one module per format."""
