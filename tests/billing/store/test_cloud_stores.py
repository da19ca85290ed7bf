"""Homes in Google Cloud Storage and in Azure, with servers that answer as their documents say."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
from werkzeug.wrappers import Request, Response

from billing.store import object_store
from billing.store.guarantees import tried_guarantees
from billing.store.object_store import LostRaceError, ObjectStore, StoreError
from billing.store.working_copy import make_working_copy, working_copy
from tests.cloud_stores import Blobs, azure, google, running

_BIG = 11 * 1024 * 1024
"""Bytes of a file that is uploaded in more than one part."""


@pytest.fixture(params=[("gs", google), ("az", azure)], ids=["gs", "az"])
def cloud(request: pytest.FixtureRequest) -> Iterator[tuple[str, Blobs]]:
    """The URL of a prefix, and the objects of the store that it names."""
    scheme: str
    answer: Callable[[Blobs, Request], Response]
    scheme, answer = request.param
    with running(answer, ["container"]) as (blobs, environment), mock.patch.dict(os.environ, environment):
        yield f"{scheme}://container/home", blobs


def test_a_store_of_google_or_azure_keeps_every_guarantee_and_is_left_empty(cloud: tuple[str, Blobs]) -> None:
    url, blobs = cloud
    tried = tried_guarantees(ObjectStore(url), "check-store/1")
    assert [guarantee for guarantee in tried if not guarantee.holds] == []
    assert len(tried) == 7
    assert blobs.containers == {"container": {}}


def test_an_object_is_created_once_and_replaced_only_if_it_is_unchanged(cloud: tuple[str, Blobs]) -> None:
    objects = ObjectStore(cloud[0])
    assert objects.put_new("a/b", b"one")
    assert not objects.put_new("a/b", b"other")
    found = objects.get("a/b")
    assert found is not None
    assert found[0] == b"one"
    second = objects.replace("a/b", b"two", found[1])
    for expected in (found[1], None):
        with pytest.raises(LostRaceError):
            objects.replace("a/b", b"three", expected)
    # the answer to a put may be lost: the same bytes are no lost race
    again = objects.replace("a/b", b"two", found[1])
    assert again.e_tag == second.e_tag
    unchanged = objects.get("a/b", unless=second.e_tag)
    assert unchanged is not None
    assert unchanged[0] == b""
    assert objects.get("a/c") is None
    assert objects.size("a/c") is None


def test_listings_of_several_pages_and_folders(cloud: tuple[str, Blobs]) -> None:
    objects = ObjectStore(cloud[0])
    keys = [f"folder/{name}" for name in ("1", "2", "3", "4", "deep/1", "deep/2", "ä ö/1")]
    for key in keys:
        objects.put_new(key, key.encode())
    assert sorted(found.key for found in objects.objects("folder")) == sorted(keys)
    assert {found.size for found in objects.objects("folder/deep")} == {len("folder/deep/1")}
    inside, folders = objects.folder("folder")
    assert sorted(found.key for found in inside) == keys[:4]
    assert sorted(folders) == ["folder/deep", "folder/ä ö"]
    mark = next(found.mark for found in inside if found.key == "folder/1")
    objects.overwrite("folder/1", b"other")
    assert mark not in {found.mark for found in objects.folder("folder")[0]}


def test_objects_that_are_gone_already_do_not_stop_a_deletion(cloud: tuple[str, Blobs]) -> None:
    url, blobs = cloud
    objects = ObjectStore(url)
    for key in ("a", "b", "c"):
        objects.put_new(key, b"1")
    objects.delete("none")
    objects.delete_all(["none", "a", "gone", "b", "c"])
    assert blobs.containers == {"container": {}}


def test_a_large_file_is_uploaded_in_parts(
    cloud: tuple[str, Blobs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "IN_ONE_PUT", 1024)
    content = bytes(range(256)) * (_BIG // 256)
    (tmp_path / "file").write_bytes(content)
    objects = ObjectStore(cloud[0])
    assert objects.put_new("big", tmp_path / "file")
    assert not objects.put_new("big", tmp_path / "file")
    assert cloud[1].containers["container"]["home/big"][0] == content
    mark = next(iter(objects.objects(""))).mark
    sha256 = objects.fetch("big", tmp_path / "again", mark=mark)
    assert sha256 == objects.digest("big")
    assert (tmp_path / "again").read_bytes() == content


def test_a_missing_container_is_named(cloud: tuple[str, Blobs]) -> None:
    nowhere = ObjectStore(cloud[0].replace("container", "nowhere"))
    for ask in (
        lambda: nowhere.get("a"),
        lambda: nowhere.put_new("a", b""),
        lambda: nowhere.replace("a", b"", None),
        lambda: list(nowhere.objects("")),
        lambda: nowhere.delete_all(["a"]),
    ):
        with pytest.raises(StoreError, match="there is no bucket 'nowhere'"):
            ask()


def test_what_one_worker_commits_another_checks_out(cloud: tuple[str, Blobs], tmp_path: Path) -> None:
    table = "lake/cycles/billing_month=2026-01/cycles.parquet"
    one, two = (working_copy(make_working_copy(cloud[0], tmp_path / name)) for name in ("one", "two"))
    assert one is not None
    assert two is not None
    for content in ("first", "second"):
        with one.held():
            target = one.root / table
            target.parent.mkdir(parents=True, exist_ok=True)
            target.with_name(".writing-1").write_text(content)
            target.with_name(".writing-1").replace(target)
        with two.held():
            assert (two.root / table).read_text() == content
