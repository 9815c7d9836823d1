"""What must hold for all exports, against a model of the merge in a few lines of plain Python."""

import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

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
