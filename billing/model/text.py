"""Words for people. Imports no Polars: the command line starts with it."""


def counted(number: int | str, noun: str) -> str:
    """Format a count with its noun: 1 event, 2 events, 1,200 events, no events."""
    return f"{number} {noun}" if str(number) == "1" else f"{number} {noun}s"
