"""Settings of the process of a command."""

import gc

import pytest

from pipeline.process_settings import loading


def test_nothing_is_collected_while_modules_load_and_they_are_left_alone_afterwards() -> None:
    frozen = gc.get_freeze_count()
    with pytest.raises(ModuleNotFoundError), loading():
        assert not gc.isenabled()
        loaded: list[list[int]] = [[] for _ in range(100_000)]
        raise ModuleNotFoundError(f"{len(loaded)} of them")
    assert gc.isenabled()
    assert gc.get_freeze_count() > frozen + 90_000
