"""Manifests as trees of folders: the same files give the same tree, and one changed file changes little."""

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from billing.store.content_trees import Entry, Tree, changed_tree, conflicts, read_tree

_NAMES = st.sampled_from(["a", "b", "c"])
_PATHS = st.lists(_NAMES, min_size=1, max_size=4).map("/".join)
_ENTRIES = st.builds(Entry, st.sampled_from(["0" * 64, "1" * 64]), st.integers(0, 9))


def _made(*steps: dict[str, Entry | None]) -> tuple[Tree, dict[str, bytes]]:
    tree, objects = Tree(), dict[str, bytes]()
    for changes in steps:
        tree, made = changed_tree(tree, changes)
        objects |= made
    return tree, objects


def _read(objects: dict[str, bytes], names: list[str]) -> list[bytes]:
    return [objects[name] for name in names]


def _without_folders(files: dict[str, Entry]) -> dict[str, Entry]:
    """Leave out files that would be folders of others."""
    return {path: entry for path, entry in files.items() if not any(other.startswith(f"{path}/") for other in files)}


@given(st.dictionaries(_PATHS, _ENTRIES).map(_without_folders), st.data())
def test_a_tree_is_that_of_its_files_however_they_came(files: dict[str, Entry], data: st.DataObject) -> None:
    whole, objects = _made(dict(files))
    order = data.draw(st.permutations(sorted(files)))
    half = order[: len(order) // 2]
    extra = {f"{path}/x": Entry("2" * 64, 1) for path in ("d", "d/e")}
    stepwise, made = _made(
        {path: Entry("3" * 64, 3) for path in half},
        {**{path: files[path] for path in order}, **extra},
        dict.fromkeys(extra),
    )
    assert stepwise.root == whole.root
    assert dict(stepwise.files()) == dict(whole.files()) == files
    for root, known in ((whole.root, objects), (stepwise.root, made)):
        read = read_tree(root, partial(_read, known))
        assert dict(read.files()) == files
        assert read.objects == whole.objects


def test_a_changed_file_changes_the_objects_of_its_folders_only() -> None:
    files = {
        f"lake/{table}/billing_month=2026-{month:02}/{table}": Entry("0" * 64, 1) for table in "ab" for month in (1, 2)
    }
    tree, objects = _made(dict(files))
    assert len(objects) == 1 + 1 + 2 + 2  # the two months of a table are the same file twice
    after, made = changed_tree(tree, {"lake/a/billing_month=2026-01/a": Entry("1" * 64, 1)})
    assert len(made) == 4
    assert {folder for folder in after.objects if after.objects[folder] != tree.objects[folder]} == {
        "",
        "lake",
        "lake/a",
        "lake/a/billing_month=2026-01",
    }


def test_only_files_that_both_changed_differently_conflict() -> None:
    zero, one, two = (Entry(digit * 64, 1) for digit in "012")
    base, _ = _made({"a": zero, "b": zero, "c": zero, "d": zero})
    theirs, _ = changed_tree(base, {"a": one, "b": one, "c": None})
    assert conflicts(base, theirs, {"a": one, "d": two, "e": one}) == []
    assert conflicts(base, theirs, {"a": two, "b": None, "c": two, "d": one}) == ["a", "b", "c"]
