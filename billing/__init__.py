"""The business of Overage: plain functions over frames. Imports no Dagster and reads no clock."""

__version__ = "0.1.0"
