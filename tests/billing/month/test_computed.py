"""What several steps ask for is computed once per name, and again when its key moved."""

from pathlib import Path

from billing.month.computed import Computed, file_stamp


def test_an_answer_is_computed_once_until_its_key_moves() -> None:
    computed, asked = Computed(), []

    def answer() -> int:
        asked.append(True)
        return len(asked)

    assert [computed.once("usage", key, answer) for key in ("a", "a", "b", "b", "a")] == [1, 1, 2, 2, 3]
    assert computed.once("other", "a", answer) == 4, "another name is another answer"
    assert computed.once("usage", "a", answer) == 3
    computed.forget("usage")
    computed.forget("never asked for")
    assert computed.once("usage", "a", answer) == 5


def test_a_key_and_an_answer_may_be_none() -> None:
    computed, asked = Computed(), []
    for _ in range(2):
        assert computed.once("nothing", None, lambda: asked.append(True)) is None
    assert len(asked) == 1


def test_the_stamp_of_a_file_moves_with_what_is_put_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    assert file_stamp(path) is None
    path.write_bytes(b"one")
    before = file_stamp(path)
    assert file_stamp(path) == before
    other = tmp_path / "other"
    other.write_bytes(b"two")
    other.replace(path)
    assert file_stamp(path) != before
