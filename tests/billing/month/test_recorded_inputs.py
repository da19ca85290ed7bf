"""The format of recorded inputs: one for all, read from homes of earlier versions too."""

import json
from pathlib import Path

import pytest

from billing.month.recorded_inputs.record import Record, month_record, read_record, write_record
from billing.month.recorded_inputs.runs import last_as_of, profiles_built_from
from billing.store.home import Home


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = month_record(Home(tmp_path), "2026-01", "usage")
    for record in (Record({"b": "2", "a": "ü"}), Record({"a": "1"}, {"usage": "hash"}), Record({})):
        write_record(path, record)
        assert read_record(path) == record
    write_record(path, Record({"b": "2", "a": "1"}))
    one = path.read_bytes()
    write_record(path, Record({"a": "1", "b": "2"}))
    assert path.read_bytes() == one, "in one order"


def test_the_inputs_that_moved_are_named_whether_they_are_others_new_or_gone() -> None:
    recorded = Record({"usage": "1", "requests": "2", "payments": "3"})
    assert recorded.moved({"usage": "1", "requests": "9", "levels": "4"}) == ["levels", "payments", "requests"]
    assert recorded.moved(recorded.inputs) == []


@pytest.mark.parametrize("content", [b"[1, 2]", b"7", b'"text"'])
def test_what_is_no_record_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "record.json"
    assert read_record(path) is None
    path.write_bytes(content)
    assert read_record(path) is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_damaged_record_is_no_missing_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lake" / "last_run.json"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ValueError):
        read_record(path)
    assert last_as_of(tmp_path) is None and profiles_built_from(tmp_path) is None, "the next run writes it anew"


def test_a_record_that_may_be_lost_is_synced_only_where_it_replaces_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    path = month_record(Home(tmp_path), "2026-01", "usage")
    write_record(path, Record({"a": "1"}), may_be_lost=True)
    assert synced == []
    write_record(path, Record({"a": "2"}), may_be_lost=True)
    assert len(synced) == 2, "the file and its folder"
    # What a power cut leaves of one that was not.
    for content in (b"", b"\0" * 100, path.read_bytes()[:10] + b"\0" * 100):
        path.write_bytes(content)
        assert read_record(path, may_be_lost=True) is None
        with pytest.raises(ValueError):
            read_record(path)


def test_the_last_run_of_an_earlier_version_is_known(tmp_path: Path) -> None:
    path = tmp_path / "lake" / "last_run.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"as_of": "2026-02-28", "profiles_built_from": "abc"}))
    assert str(last_as_of(tmp_path)) == "2026-02-28"
    assert profiles_built_from(tmp_path) == "abc"
