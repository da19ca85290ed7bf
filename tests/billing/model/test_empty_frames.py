"""What is skipped of frames without rows is what would have been computed."""

import polars as pl
import pytest

from billing.model import empty_frames
from billing.model.empty_frames import skip_if_empty

ROWS = pl.DataFrame({"account_id": ["a"], "amount": [1]})
OTHERS = pl.DataFrame({"account_id": ["a"], "since": [2]})


class Counted:
    """A function that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def renamed(self, frame: pl.DataFrame, name: str) -> pl.DataFrame:
        self.calls += 1
        return frame.rename({"amount": name})

    def joined(self, frame: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
        self.calls += 1
        return pl.concat([frame, others], how="diagonal")


@pytest.fixture(autouse=True)
def _without_comparing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(empty_frames, "COMPARE", False)


def test_rows_are_computed_each_time() -> None:
    counted = Counted()
    function = skip_if_empty("frame", by=("name",))(counted.renamed)
    assert [function(ROWS, "due").columns for _ in range(2)] == [["account_id", "due"]] * 2
    assert counted.calls == 2


def test_no_rows_are_computed_once_for_each_columns_and_each_value_that_decides_them() -> None:
    counted = Counted()
    function = skip_if_empty("frame", by=("name",))(counted.renamed)
    assert [function(ROWS.clear(), "due").columns for _ in range(2)] == [["account_id", "due"]] * 2
    assert counted.calls == 1
    assert function(ROWS.clear(), name="open").columns == ["account_id", "open"]
    assert counted.calls == 2
    wider = ROWS.clear().with_columns(since=pl.lit(None, pl.Date))
    assert function(wider, "due").columns == ["account_id", "due", "since"]


def test_all_frames_that_are_named_have_to_be_empty() -> None:
    counted = Counted()
    function = skip_if_empty("frame", "others")(counted.joined)
    assert [function(ROWS.clear(), OTHERS).height for _ in range(2)] == [1, 1]
    assert [function(frame=ROWS, others=OTHERS.clear()).height for _ in range(2)] == [1, 1]
    assert [function(ROWS.clear(), others=OTHERS.clear()).height for _ in range(2)] == [0, 0]
    assert counted.calls == 5


def test_what_is_remembered_cannot_be_changed_from_outside() -> None:
    function = skip_if_empty("frame", by=("name",))(Counted().renamed)
    function(ROWS.clear(), "due").insert_column(0, pl.Series("place", [], pl.Int64))
    assert function(ROWS.clear(), "due").columns == ["account_id", "due"]


def test_a_function_that_makes_rows_of_no_rows_is_an_error() -> None:
    function = skip_if_empty("frame")(Counted().joined)
    with pytest.raises(AssertionError, match=r"Counted\.joined, of no rows: found"):
        function(ROWS.clear(), OTHERS)


def test_compared_it_is_an_error_where_the_columns_depend_on_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    function = skip_if_empty("frame")(Counted().renamed)
    function(ROWS.clear(), "due")
    monkeypatch.setattr(empty_frames, "COMPARE", True)
    with pytest.raises(AssertionError, match="expected none of"):
        function(ROWS.clear(), "open")
