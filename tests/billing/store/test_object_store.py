"""Objects of a store: conditional puts, and what is said of a store that fails."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from unittest import mock

import pytest

from billing.model.errors import RefusedError
from billing.store.guarantees import tried_guarantees
from billing.store.object_store import PATIENCE, LostRaceError, ObjectStore, StoreError, Version, checked_url
from tests.object_store import Answer, Environ, dropping, failing, slow
from tests.object_store import ObjectStore as Server


@pytest.fixture
def objects(store: Server) -> ObjectStore:
    """A prefix of an empty bucket."""
    return ObjectStore(f"s3://{store.new_bucket()}/home")


@pytest.fixture
def impatient() -> object:
    """Give up after half a second."""
    half = timedelta(seconds=0.5)
    with mock.patch.dict(PATIENCE, {"retries": half, "stall": half, "request": half, "connect": half}):
        yield


def test_an_object_is_created_once(objects: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"other")
    assert objects.put_new("a/b", b"one")
    assert not objects.put_new("a/b", tmp_path / "file")
    found = objects.get("a/b")
    assert found is not None
    assert found[0] == b"one"
    assert objects.get("a/c") is None
    assert [(each.key, each.size) for each in objects.objects("a")] == [("a/b", 3)]


def test_an_object_of_which_another_writer_failed_is_created(store: Server, objects: ObjectStore) -> None:
    store.fault = failing(1, method="PUT", status="409 Conflict")
    assert objects.put_new("a", b"one")
    found = objects.get("a")
    assert found is not None


def test_an_object_is_replaced_only_if_it_is_unchanged(objects: ObjectStore) -> None:
    first = objects.replace("manifest", b"one", None)
    second = objects.replace("manifest", b"two", first)
    for expected in (first, None):
        with pytest.raises(LostRaceError):
            objects.replace("manifest", b"three", expected)
    # the answer to a put may be lost: the same bytes are no lost race
    assert objects.replace("manifest", b"two", first) == second
    assert objects.get("manifest", unless=second.e_tag) == (b"", Version(second.e_tag, None))


def test_a_download_appears_whole_or_not_at_all(store: Server, objects: ObjectStore, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4_000
    objects.put_new("big", content)
    store.fault = dropping(2, "big")
    objects.fetch("big", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == content
    mark = next(iter(objects.objects(""))).mark
    objects.overwrite("big", b"other")
    with pytest.raises(LostRaceError, match="was changed while it was read"):
        objects.fetch("big", tmp_path / "file", mark=mark)
    with pytest.raises(FileNotFoundError):
        objects.fetch("none", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_store_that_fails_for_a_while_is_asked_again(store: Server, objects: ObjectStore) -> None:
    store.fault = failing(2)
    assert objects.put_new("a", b"one")
    store.fault = failing(2)
    found = objects.get("a")
    assert found is not None
    store.fault = failing(2)
    objects.replace("a", b"two", found[1])
    store.fault = failing(2)
    assert [each.key for each in objects.objects("")] == ["a"]


def test_a_store_that_keeps_failing_is_named(store: Server, objects: ObjectStore, impatient: None) -> None:
    store.fault = failing(1_000)
    with pytest.raises(StoreError, match=rf"{objects.url}: a cannot be written: the store fails .*503.*tried again"):
        objects.put_new("a", b"one")
    store.fault = slow(2)
    with pytest.raises(StoreError, match="a cannot be read: the store does not answer, or not in time"):
        objects.get("a")


def test_a_missing_bucket_and_missing_credentials_are_named(store: Server, impatient: None) -> None:
    nowhere = ObjectStore("s3://nowhere/home")
    for ask in (
        lambda: nowhere.get("a"),
        lambda: nowhere.put_new("a", b""),
        lambda: nowhere.replace("a", b"", None),
        lambda: list(nowhere.objects("")),
    ):
        with pytest.raises(StoreError, match="there is no bucket 'nowhere'"):
            ask()
    unknown = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    with mock.patch.dict(os.environ, unknown | {"AWS_METADATA_ENDPOINT": "http://127.0.0.1:9"}):
        for name in unknown:
            del os.environ[name]
        with pytest.raises(StoreError, match=r"no credentials were found .*: set AWS_ACCESS_KEY_ID"):
            ObjectStore("s3://nowhere/home").get("a")


@pytest.mark.parametrize(
    "url",
    ["s3://", "ftp://host/home", "s3://user:secret@bucket/home", "s3://bucket/home?key=secret", "s3://bucket/../home"],
)
def test_a_url_that_names_no_home_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(RefusedError) as refused:
        checked_url(url)
    assert "secret" not in str(refused.value)


def test_the_url_of_a_home_has_one_form() -> None:
    assert checked_url("s3://bucket//home/") == "s3://bucket/home"
    assert checked_url("az://container") == "az://container"


def test_a_good_store_keeps_every_guarantee_and_is_left_empty(store: Server, objects: ObjectStore) -> None:
    tried = tried_guarantees(objects, "check-store/1")
    assert [guarantee for guarantee in tried if not guarantee.holds] == []
    assert len(tried) == 7
    assert list(objects.objects("")) == []


def test_a_store_without_conditional_puts_is_found_out(store: Server, objects: ObjectStore) -> None:
    store.fault = _without_conditions
    broken = {guarantee.name for guarantee in tried_guarantees(objects, "check-store/1") if not guarantee.holds}
    assert broken == {
        "an object is created only where there is none (If-None-Match)",
        "of 8 writers that create the same object at once, one wins",
        "an object is replaced only if it is unchanged (If-Match)",
        "of 8 writers that replace the same object at once, one wins",
    }


def _without_conditions(environ: Environ, _: Callable[..., object], well: Callable[[], Answer]) -> Answer:
    if environ["REQUEST_METHOD"] == "PUT":
        environ.pop("HTTP_IF_NONE_MATCH", None)
        environ.pop("HTTP_IF_MATCH", None)
    return well()
