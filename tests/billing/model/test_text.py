"""Words for people."""

from billing.model.text import counted


def test_one_is_singular_and_everything_else_is_plural() -> None:
    found = [counted(number, "event") for number in (0, 1, 2, "1", "1,200", "no")]
    assert found == ["0 events", "1 event", "2 events", "1 event", "1,200 events", "no events"]
