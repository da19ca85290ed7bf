"""Words for people."""


def counted(number: int | str, noun: str) -> str:
    """So many of something: 1 event, 2 events, 1,200 events, no events."""
    return f"{number} {noun}" if str(number) == "1" else f"{number} {noun}s"
