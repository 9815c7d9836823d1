"""What must hold for all exports, against a model of the merge in a few lines of plain Python."""

import os
import stat
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.faceset import names
from include.faceset.declared.layouts.flat import FlatExport
from include.faceset.steps import summarise
from include.faceset.steps.retire import retire
from tests.unit.faceset.pipeline import FLAT, TREE, face, make_dataset, make_run, put, run_to_seal

OTHER = {"name": "other", "layout": "image_folder"}
EXPORTS = [FLAT, TREE, OTHER]
GOOD = [face(seed) for seed in range(5)]
BAD = {b"": "empty_file", b"text": "not_an_image", GOOD[0][:-200]: "corrupt", face(9, size=(50, 50)): "wrong_size"}

identities = st.sampled_from(["ann", "ben", "cyd", "Ben", "d e"])
contents = st.sampled_from(GOOD * 2 + list(BAD))
tree_files = st.tuples(
    st.sampled_from(["training_data", "other"]), identities, st.sampled_from(["1.jpg", "2.png", "3.jpg"])
)
flat_files = st.tuples(st.just("faces_only"), identities, st.just("_face.png"))
trees = st.dictionaries(st.one_of(tree_files, tree_files, flat_files), contents, max_size=20)

Files = dict[tuple[str, str, str], bytes]


def path_of(file: tuple[str, str, str]) -> str:
    export, identity, name = file
    return f"{identity}{name}" if export == "faces_only" else f"{identity}/{name}"


def write(root: Path, files: Files) -> None:
    for name in ("faces_only", "training_data", "other"):
        put(root / "exports" / name / "README", b"so that no export is empty")
    for file, data in files.items():
        put(root / "exports" / file[0] / path_of(file), data)


def model(files: Files, min_images: int) -> dict[str, str]:
    """Outcome by `<export>/<path>`, as design says it should be."""
    outcomes: dict[tuple[str, str, str], str] = {}
    counts = Counter(identity for _, identity, _ in files)
    seen: dict[tuple[str, bytes], tuple[str, str, str]] = {}
    for file in sorted(files, key=lambda file: (file[1], file[0], path_of(file))):
        data = files[file]
        if counts[file[1]] < min_images:
            outcomes[file] = "too_few_images"
        elif data in BAD:
            outcomes[file] = BAD[data]
        elif (file[1], data) in seen:
            outcomes[file] = "duplicate_content"
        else:
            seen[file[1], data] = file
            outcomes[file] = "kept"

    def drop_small() -> None:
        left = Counter(file[1] for file, outcome in outcomes.items() if outcome == "kept")
        outcomes.update(
            {file: "too_few_images" for file in outcomes if outcomes[file] == "kept" and left[file[1]] < min_images}
        )

    drop_small()
    owners = Counter(files[file] for file, outcome in outcomes.items() if outcome == "kept")
    outcomes.update(
        {file: "identity_conflict" for file in outcomes if outcomes[file] == "kept" and owners[files[file]] > 1}
    )
    drop_small()
    return {f"{file[0]}/{path_of(file)}": outcome for file, outcome in outcomes.items()}


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(trees, st.integers(1, 3), st.integers(1, 5), st.permutations(EXPORTS), st.data())
def test_the_merge_is_what_the_model_says(
    files: Files, min_images: int, shards: int, order: list[dict[str, str]], data: st.DataObject
) -> None:
    # One image that is kept whatever else happens, so that there is always a release.
    files = files | {("training_data", "zoe", f"{number}.jpg"): face(100 + number) for number in range(3)}
    expected = model(files, min_images)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, files)
        dataset = make_dataset(root, EXPORTS, min_images=min_images)
        result = run_to_seal(make_run(dataset))
        outcomes = {path: outcome for path, outcome in result.outcomes.items() if not path.endswith("README")}
        assert outcomes == expected
        kept = sorted(data for file, data in files.items() if expected[f"{file[0]}/{path_of(file)}"] == "kept")
        assert sorted(result.output.values()) == kept
        assert len(list(result.run.output.iterdir())) == result.sealed.identities
        assert len(result.output) == result.sealed.images

        # Another order of exports, number of shards and output: the same release.
        elsewhere = make_dataset(root, order, min_images=min_images, output=str(root / "elsewhere"))
        again = run_to_seal(make_run(elsewhere, shards=shards))
        assert again.sealed.release_id == result.sealed.release_id
        assert again.output == result.output

        # Some files change, come or go: the run on top ends as a run from nothing does.
        changes: Files = data.draw(trees, label="changes")
        gone = data.draw(st.sets(st.sampled_from(sorted(files))), label="gone") - {
            file for file in files if file[1] == "zoe"
        }
        for file in gone:
            (root / "exports" / file[0] / path_of(file)).unlink()
        write(root, changes)
        on_top = run_to_seal(make_run(dataset, "manual__2"))
        fresh = make_dataset(root, EXPORTS, min_images=min_images, output=str(root / "fresh"))
        from_nothing = run_to_seal(make_run(fresh))
        assert on_top.output == from_nothing.output
        assert on_top.outcomes == from_nothing.outcomes
        assert on_top.sealed.release_id == from_nothing.sealed.release_id

        # And with nothing new, no image is opened.
        assert run_to_seal(make_run(dataset, "manual__3")).read == 0


# Names as bytes, as a disk has them: good ones, ones that are no text, and what the rule for names refuses.
GOOD_NAMES = [b"ann", b"ben", "Zoë".encode(), b"d e"]
ODD_NAMES = [
    b".hidden",
    b" ann",
    b"ann ",
    b"a\\b",
    b"a\x01",
    b"a\nb",
    b"a\xff",
    "Zoe\u0308".encode(),
    "\u202ea".encode(),
]
any_name = st.binary(min_size=1, max_size=4).filter(
    lambda name: name not in {b".", b".."} and not set(name) & set(b"/\0")
)
folder_names = st.one_of(st.sampled_from(GOOD_NAMES), st.sampled_from(GOOD_NAMES + ODD_NAMES), any_name)
suffixes = st.sampled_from([b".jpg", b".JPG", b".png", b".txt", b""])
file_names = st.one_of(
    st.sampled_from([b"1.jpg", b"2.png", b"3.JPG"]),
    st.tuples(st.one_of(st.sampled_from(ODD_NAMES), any_name), suffixes).map(b"".join),
)
flat_names = st.one_of(folder_names.map(lambda name: name + b"_face.png"), file_names)
THINGS = ["link", "broken link", "link to a folder", "FIFO", "folder", "empty folder"]
things = st.one_of(contents, contents, contents, st.sampled_from(THINGS))
Tree = dict[tuple[str, bytes, bytes], bytes | str]
bad_trees = st.dictionaries(
    st.one_of(
        st.tuples(st.just("training_data"), folder_names, file_names),
        st.tuples(st.just("training_data"), st.just(b""), file_names),
        st.tuples(st.just("faces_only"), st.just(b""), flat_names),
    ),
    things,
    max_size=25,
)


def make(path: Path, thing: bytes | str, neighbour: Path) -> bool:
    """Put a thing at a path, unless something is in its way; whether it was put there."""
    parent = path.parent
    if os.path.lexists(path) or parent.is_symlink() or (os.path.lexists(parent) and not parent.is_dir()):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(thing, bytes):
        path.write_bytes(thing)
    elif thing == "FIFO":
        os.mkfifo(path)
    elif "folder" in thing and "link" not in thing:
        path.mkdir()
        if thing == "folder":
            put(path / "inside.jpg", GOOD[0])
    else:
        path.symlink_to({"link": neighbour / "face.jpg", "link to a folder": neighbour}.get(thing, neighbour / "none"))
    return True


def fingerprint(root: Path, *, without: set[str]) -> dict[bytes, tuple[object, ...]]:
    """Everything below a folder: bytes or target, mode, owner, links, inode, and when it or its status changed last."""
    found = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        if folder == os.fsencode(root):
            folders[:] = [name for name in folders if os.fsdecode(name) not in without]
        for name in [*folders, *files]:
            path = os.path.join(folder, name)  # noqa: PTH118 bytes
            status = os.lstat(path)
            facts = (status.st_mode, status.st_uid, status.st_gid, status.st_ino, status.st_nlink, status.st_size)
            content: bytes | None = None
            if stat.S_ISREG(status.st_mode):
                content = Path(os.fsdecode(path)).read_bytes()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)  # noqa: PTH115 bytes
            found[path] = (content, *facts, status.st_mtime_ns, status.st_ctime_ns)
    return found


def scanned(tree: Tree, flat: FlatExport) -> tuple[dict[str, str], Files]:
    """What the scan settles (outcome by `<export>/<path>`), and the images that it leaves to the model above."""
    settled: dict[str, str] = {}
    images: Files = {}
    for (export, folder, name), thing in tree.items():
        if export == "training_data" and not folder and isinstance(thing, str) and thing.endswith("older"):
            if thing == "folder":  # an identity like any other: its name is judged
                images_of_folder = {(export, name, b"inside.jpg"): GOOD[0]}
                inside, found = scanned(images_of_folder, flat)
                settled |= inside
                images |= found
            elif thing.startswith("link"):
                settled[f"{export}/{names.as_text(os.fsdecode(name))}"] = "not_regular_file"
            continue
        text, identity = os.fsdecode(name), os.fsdecode(folder) or None
        if export == "faces_only":
            match = flat.regex().fullmatch(text)
            identity = match and match["identity"]
        path = os.fsdecode(os.path.join(folder, name))  # noqa: PTH118 bytes
        if isinstance(thing, str):
            settled[f"{export}/{names.as_text(path)}"] = "not_regular_file"
        elif identity is None or not names.is_image(text):
            settled[f"{export}/{names.as_text(path)}"] = "unmatched_name"
        elif not names.is_safe(identity) or not names.is_safe(text):
            settled[f"{export}/{names.as_text(path)}"] = "unsafe_name"
        else:
            images[export, identity, text.removeprefix(identity) if export == "faces_only" else text] = thing
    return settled, images


@pytest.mark.long
@settings(max_examples=100, deadline=None)
@given(bad_trees, st.integers(1, 3), st.sampled_from(["clone", "copy"]))
def test_every_file_is_in_the_ledger_once_and_nothing_else_is_touched(
    drawn: Tree, min_images: int, link_mode: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        neighbour = put(root / "neighbour/face.jpg", GOOD[0]).parent
        put(root / "merged-not-ours/ann/1.jpg", GOOD[1])
        drawn = {("training_data", b"zoe", b"%d.jpg" % number): face(100 + number) for number in range(3)} | drawn
        drawn[("faces_only", b"", b"README")] = b"so that no export is empty"
        tree = {
            where: thing
            for where, thing in drawn.items()
            if make(root / "exports" / where[0] / os.fsdecode(where[1]) / os.fsdecode(where[2]), thing, neighbour)
        }
        before = fingerprint(root, without={"merged", "merged.releases"})
        dataset = make_dataset(root, min_images=min_images)
        settled, images = scanned(tree, FlatExport.model_validate(FLAT))
        expected = settled | model(images, min_images)
        result = run_to_seal(make_run(dataset, link_mode=link_mode))
        summarise.summarise(result.run, result.sealed, [], None)
        retire(result.run, None)
        assert result.outcomes == expected
        assert sum(result.sealed.scanned.values()) == len(expected)
        assert fingerprint(root, without={"merged", "merged.releases"}) == before
        assert sorted(os.listdir(root)) == ["exports", "merged", "merged-not-ours", "merged.releases", "neighbour"]
        kept = sorted(images[file] for file in images if expected[f"{file[0]}/{path_of(file)}"] == "kept")
        assert sorted(result.output.values()) == kept
        assert len(os.listdir(result.run.output)) == result.sealed.identities
