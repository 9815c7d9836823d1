"""What people decided is what the next run does, in whatever order it stands, and it goes with whoever is erased."""

import hashlib
import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from include.faceset.declared import deciding, loading
from include.faceset.declared.decisions import HEADER, DecisionError, parse, read, write
from include.faceset.declared.resolve import Decided, resolve
from include.faceset.erasure.decisions import StillMergedError
from include.faceset.errors import NotReadyError
from include.faceset.steps.preflight import nothing_to_do, preflight
from tests.unit.faceset.pipeline import TREE, Result, face, make_dataset, make_run, put, run_to_seal

SIGNED = "anna,2026-11-30,looked at both"
DAILY = {"name": "daily", "layout": "image_folder", "root": "daily/{partition}"}
OWN = {"name": "own", "layout": "image_folder", "namespace": "own"}


def sha(seed: int) -> str:
    return hashlib.sha256(face(seed)).hexdigest()


def bring(folder: Path, *images: tuple[str, int], export: str = "training_data") -> None:
    """Images by `<identity>/<name>` and seed."""
    for name, seed in images:
        put(folder / f"exports/{export}/{name}.jpg", face(seed))


def made(folder: Path, decisions: list[str], run_id: str = "1", **changes: Any) -> Result:
    table = put(folder / "table", "\n".join([HEADER, *(f"{line},{SIGNED}" for line in decisions)]).encode())
    dataset = make_dataset(folder, **{"exports": [TREE], "min_images": 2, "decisions": str(table), **changes})
    return run_to_seal(make_run(dataset, run_id))


def keys(result: Result) -> set[str]:
    return set(result.output)


def test_the_same_person_lies_under_one_name_with_all_images(tmp_path: Path) -> None:
    bring(tmp_path, ("ann/0", 1), ("ann/1", 2), ("anne/0", 3), ("anne/1", 2))
    result = made(tmp_path, ["same_person,ann,anne,"])
    assert keys(result) == {"ann/0.jpg", "ann/1.jpg", "ann/training_data__0.jpg"}
    rows = {row["path"]: row for row in result.ledger.to_pylist()}
    assert {path: (row["identity"], row["scanned_as"], row["outcome"]) for path, row in rows.items()} == {
        "ann/0.jpg": ("ann", None, "kept"),
        "ann/1.jpg": ("ann", None, "kept"),
        "anne/0.jpg": ("ann", "anne", "kept"),
        "anne/1.jpg": ("ann", "anne", "duplicate_content"),
    }


def test_every_export_and_part_and_chain_of_names_counts_and_shards_do_not_matter(tmp_path: Path) -> None:
    bring(tmp_path, ("ann/0", 1), ("b/0", 2))
    bring(tmp_path, ("2026-05-01/c/0", 3), ("2026-05-02/c/0", 4), export="daily")
    bring(tmp_path, ("d/0", 5), export="own")
    said = ["same_person,b,c,", "same_person,ann,b,", "same_person,b,own__d,"]
    found = [made(tmp_path, said, str(shards), exports=[TREE, DAILY, OWN], shards=shards) for shards in (1, 4, 16)]
    assert {key.partition("/")[0] for key in keys(found[0])} == {"ann"}
    assert len(keys(found[0])) == 5
    assert len({one.sealed.release_id for one in found}) == 1


def test_a_conflict_that_is_decided_keeps_the_image_and_undone_it_is_in_conflict_again(tmp_path: Path) -> None:
    bring(tmp_path, ("ann/0", 1), ("ann/1", 2), ("ben/0", 1), ("ben/1", 3), ("ben/2", 4))
    before = made(tmp_path, [])
    assert keys(before) == {"ben/1.jpg", "ben/2.jpg"}
    after = made(tmp_path, [f"keep_under,ann,,{sha(1)}"], "2")
    assert keys(after) == {"ann/0.jpg", "ann/1.jpg", "ben/1.jpg", "ben/2.jpg"}
    assert after.outcomes["training_data/ben/0.jpg"] == "dropped_by_decision"
    assert made(tmp_path, [f"keep_under,ann,,{sha(1)}"], "3").read == 0
    undone = made(tmp_path, [], "4")
    assert (keys(undone), undone.outcomes) == (keys(before), before.outcomes)
    assert undone.sealed.release_id == before.sealed.release_id


def test_what_is_dropped_is_kept_nowhere_and_counts_for_nobody(tmp_path: Path) -> None:
    bring(tmp_path, ("ann/0", 1), ("ann/1", 2), ("ben/0", 3), ("ben/1", 4), ("cleo/0", 5), ("cleo/1", 6))
    result = made(tmp_path, [f"drop_image,,,{sha(1).upper()}", "Drop identity,ben,,"])
    assert keys(result) == {"cleo/0.jpg", "cleo/1.jpg"}
    assert result.outcomes == {
        "training_data/ann/0.jpg": "dropped_by_decision",
        "training_data/ann/1.jpg": "too_few_images",
        "training_data/ben/0.jpg": "dropped_by_decision",
        "training_data/ben/1.jpg": "dropped_by_decision",
        "training_data/cleo/0.jpg": "kept",
        "training_data/cleo/1.jpg": "kept",
    }


def test_the_order_of_decisions_does_not_matter_and_ids_depend_on_what_is_kept_alone(tmp_path: Path) -> None:
    bring(
        tmp_path, *((f"{name}/{number}", 10 * at + number) for at, name in enumerate("abcdef") for number in range(3))
    )
    bring(tmp_path, ("a/9", 10), ("a/8", 51))
    said = [
        "same_person,a,c,",
        "same_person,d,f,",
        f"keep_under,b,,{sha(10)}",
        f"keep_under,f,,{sha(51)}",
        f"drop_image,,,{sha(1)}",
        "drop_identity,e,,",
    ]
    first = made(tmp_path, said)
    orders = random.Random(3).sample(list(itertools.permutations(said)), 4)
    for number, order in enumerate(orders):
        again = made(tmp_path, [*order, "drop_identity,nobody,,"], f"again {number}")
        assert (again.sealed.release_id, again.outcomes) == (first.sealed.release_id, first.outcomes)
    by_hand = tmp_path / "by hand"
    for key, data in first.output.items():
        put(by_hand / "exports/training_data" / key, data)
    assert made(by_hand, []).sealed.release_id == first.sealed.release_id


def test_a_run_that_rolls_back_goes_by_no_decision(tmp_path: Path) -> None:
    bring(tmp_path, ("ann/0", 1), ("ann/1", 2), ("ben/0", 3), ("ben/1", 4))
    first = made(tmp_path, [])
    second = made(tmp_path, ["drop_identity,ben,,"], "2")
    assert keys(second) == {"ann/0.jpg", "ann/1.jpg"}
    back = run_to_seal(make_run(second.run.dataset, "3", release=first.sealed.release_id))
    assert keys(back) == keys(first)
    assert keys(made(tmp_path, ["drop_identity,ben,,"], "4")) == keys(second)


def test_a_decision_is_a_reason_to_build_where_no_part_has_come(tmp_path: Path) -> None:
    bring(tmp_path, ("2026-05-01/ann/0", 1), ("2026-05-01/ann/1", 2), ("2026-05-01/ben/0", 3), export="daily")
    made(tmp_path, [], exports=[DAILY], min_images=1)
    dataset = make_dataset(tmp_path, [DAILY], min_images=1, decisions=str(tmp_path / "table"))
    tomorrow = make_run(dataset, "2", partitions=("2026-05-02",))
    assert nothing_to_do(tomorrow) is not None
    with (tmp_path / "table").open("a") as table:
        table.write(f"\ndrop_identity,ben,,,{SIGNED}\n")
    assert nothing_to_do(tomorrow) is None


WRONG = [
    ("", "a,b,c\n1,2,3", r"line 1: the first line names the columns: decision,identity"),
    ("merge,a,b,", None, r"line 2: 'merge' is no decision; there are: same_person, keep_under, drop_image"),
    ("same_person,a,,", None, r"line 2: same_person needs other; it takes identity and other"),
    (f"drop_image,a,,{sha(1)}", None, r"line 2: drop_image takes no identity; it takes sha256"),
    ("drop_image,,,12ab", None, r"line 2: sha256 must be 64 hexadecimal digits"),
    ("drop_identity,a/b,,", None, r"line 2: identity is no identity of a merged dataset"),
    ("", f"{HEADER}\ndrop_identity,a,,,,2026-05-01,why", r"line 2: who is empty; say who decided, when"),
    ("", f"{HEADER}\ndrop_identity,a,,,me,May,why", r"line 2: when: 'May' is no date; write it as 2026-05-01"),
    ("", f"{HEADER}\n\n# one\ndrop_identity,a,me", r"line 4 has 3 fields, not 7"),
    ("", f'{HEADER}\ndrop_identity,"a,,,me,2026-05-01,why', r"line 2 is no CSV"),
    (f"keep_under,a,,{sha(1)}\nkeep_under,b,,{sha(1)}", None, r"lines 2 and 3 \(keep_under, keep_under\) contradict"),
    (f"drop_image,,,{sha(1)}\nkeep_under,a,,{sha(1)}", None, r"lines 2 and 3 .*to be dropped and to be kept"),
    (f"keep_image,,,{sha(1)}\ndrop_image,,,{sha(1)}", None, r"lines 2 and 3 .*to be dropped and to be kept"),
    ("same_person,a,c,\nsame_person,b,c,", None, r"lines 2 and 3 .*one identity is to count as two others"),
    ("same_person,a,b,\nsame_person,b,a,", None, r"line 2: the decisions say in a circle"),
    ("same_person,a,a,", None, r"line 2: the decisions say in a circle"),
    ("same_person,a,b,\ndrop_identity,b,,", None, r"lines 2 and 3 .*to be dropped, and to keep images"),
    (f"drop_identity,a,,\nkeep_under,a,,{sha(1)}", None, r"lines 2 and 3 .*to be dropped, and to keep images"),
]


@pytest.mark.parametrize(("lines", "text", "said"), WRONG)
def test_a_wrong_table_stops_the_run_before_it_begins(tmp_path: Path, lines: str, text: str | None, said: str) -> None:
    bring(tmp_path, ("ann/0", 1))
    whole = text or "\n".join([HEADER, *(f"{line},{SIGNED}" for line in lines.split("\n"))])
    table = put(tmp_path / "table", whole.encode())
    with pytest.raises(NotReadyError, match=rf"decisions: .*table: {said}"):
        preflight(make_run(make_dataset(tmp_path, [TREE], decisions=str(table))))


def test_a_table_beside_the_dataset_file_needs_no_name_and_a_misspelt_one_is_told(tmp_path: Path) -> None:
    put(tmp_path / "faces.yaml", b"")
    put(tmp_path / "faces.decisions", f"{HEADER}\ndrop_identity,ann,,,{SIGNED}\n".encode())
    put(tmp_path / "face.decisions", b"")
    put(tmp_path / ".faces.decisions.0a1b2c3d.tmp", b"what a killed writer left")
    dataset = make_dataset(tmp_path).lying_at(tmp_path / "faces.yaml")
    assert deciding.decided(dataset).dropped_identities == {"ann"}
    assert [stray.partition(":")[0] for stray in loading.stray_lists(tmp_path)] == ["face.decisions"]


def test_what_is_added_is_there_once_and_can_be_taken_back_and_comments_stay(tmp_path: Path) -> None:
    table = tmp_path / "table"
    one, two = parse(f'{HEADER}\nsame_person,"a, b",c,,{SIGNED}\ndrop_identity,d,,,{SIGNED}\n', "-")
    for decision in (one, two, one):
        deciding.add(table, decision)
    assert [decision.about for decision in read(table)] == [one.about, two.about]
    assert list(write([one])) == [f'same_person,"a, b",c,,{SIGNED}']
    table.write_text(f"# ours\n{table.read_text()}")
    assert deciding.remove(table, lambda decision: decision.about == one.about) == 1
    assert table.read_text() == f"# ours\n{HEADER}\ndrop_identity,d,,,{SIGNED}\n"
    against = parse(f"{HEADER}\nsame_person,d,c,,{SIGNED}\n", "-")
    with pytest.raises(DecisionError, match="contradict"):
        deciding.add(table, against[0])
    assert read(table) == [two]


def test_no_decisions_come_to_nothing_and_others_have_a_digest_of_their_own() -> None:
    assert Decided().digest == ""
    said = [f"keep_image,,,{sha(1)}", f"drop_image,,,{sha(1)}", "drop_identity,a,,", "same_person,a,b,"]
    found = {resolve(parse(f"{HEADER}\n{one},{SIGNED}", "-"), "-").digest for one in said}
    assert len(found) == len(said)


def test_who_is_erased_goes_under_every_name_and_does_not_come_back(tmp_path: Path) -> None:
    bring(tmp_path, ("ann/0", 1), ("ann/1", 2), ("anne/0", 3), ("#an/0", 7), ("ben/0", 4), ("ben/1", 5))
    said = ["same_person,ann,anne,", "same_person,ann,#an,", f"drop_image,,,{sha(2)}", "drop_identity,cleo,,"]
    first = made(tmp_path, said)
    assert {key.partition("/")[0] for key in keys(first)} == {"ann", "ben"}
    listed = put(tmp_path / "listed", b"# asked for\nanne")
    after = made(tmp_path, said, "2", suppressed=str(listed))
    assert keys(after) == {"ben/0.jpg", "ben/1.jpg"}
    assert listed.read_text().splitlines() == [
        "# asked for", "anne", "# the same person as one above, as was decided", "\\#an", "ann"
    ]  # fmt: skip
    assert [decision.about for decision in read(tmp_path / "table")] == [("drop_identity", "cleo", "", "")]
    for path in (tmp_path / "merged.releases").rglob("*"):
        if path.is_file() and path.suffix != ".parquet":
            assert sha(2).encode() not in path.read_bytes(), path
    assert keys(made(tmp_path, [], "3", suppressed=str(listed))) == keys(after)


def test_a_merge_that_was_undone_does_not_hide_whoever_is_erased(tmp_path: Path) -> None:
    bring(tmp_path, ("ann/0", 1), ("ann/1", 2), ("ben/0", 3), ("cleo/0", 4), ("cleo/1", 5))
    merged = made(tmp_path, ["same_person,ann,ben,"])
    made(tmp_path, [], "2")
    listed = put(tmp_path / "listed", b"ben\n")
    with pytest.raises(StillMergedError, match=rf"release {merged.sealed.release_id} has images .* Put it back"):
        made(tmp_path, [], "3", suppressed=str(listed))
    assert keys(made(tmp_path, ["same_person,ann,ben,"], "4", suppressed=str(listed))) == {"cleo/0.jpg", "cleo/1.jpg"}
