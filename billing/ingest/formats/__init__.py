"""The formats of usage files, one module each."""
