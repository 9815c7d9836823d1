"""Exports that change, runs with other params, kills, roll-backs, erasures and strangers in the output, in any order.

A case is one step of a machine that hypothesis draws: CI does about 2,000 of them; `make properties` ten times as
many. After every run the output, the ledger and the releases are what a model of a few lines says; after every step
`latest.json` is true, and the exports are as they were.
"""

import hashlib
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from include.faceset.erasure import receipt, rewrite
from include.faceset.ground import tables
from include.faceset.release import history, release
from include.faceset.steps.copy import CopyError
from include.faceset.steps.retire import retire
from tests.kills.points import Points
from tests.unit.faceset.pipeline import FLAT, TREE, Result, face, make_dataset, make_run, put, run_to_seal
from tests.unit.faceset.test_erase import traces
from tests.unit.faceset.test_properties import BAD, GOOD, Files, fingerprint, model, path_of

pytestmark = pytest.mark.long

CASES = int(os.environ.get("CASES", "2000"))
STEPS = 40
REFUSED = 3
"""Exit code of a run that was to roll back to what somebody has removed."""

EXPORTS = [FLAT, TREE]
people = st.sampled_from(["Ann Canary", "Ben Canary", "Cyd Canary"])
places = st.one_of(
    st.tuples(st.just("training_data"), people, st.sampled_from(["1.jpg", "2.jpg"])),
    st.tuples(st.just("faces_only"), people, st.just("_face.png")),
)
CONTENTS = [*GOOD, *BAD]
contents = st.integers(0, len(CONTENTS) - 1)
NOT_AN_EXPORT = {"merged", "merged.releases", "asked"}


def release_id(output: dict[str, bytes]) -> str:
    """The id of a release that holds these files, as the README tells it."""
    lines = (f"{key}\0{hashlib.sha256(output[key]).hexdigest()}\n" for key in sorted(output))
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def without(listed: set[str], output: dict[str, bytes]) -> dict[str, bytes]:
    """What is left of a merged dataset once people are erased from it."""
    return {key: data for key, data in output.items() if key.partition("/")[0] not in listed}


class Merge(RuleBasedStateMachine):
    """One dataset's exports, output and releases, and what should be in them."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.files: Files = {}
        self.list = put(self.root / "asked/people.suppressed", b"")
        self.listed: set[str] = set()
        """Who is to be erased."""
        self.dataset = make_dataset(
            self.root, EXPORTS, shards=2, keep_releases=2, min_images=1, suppressed=str(self.list)
        )
        self.number = 0
        self.outputs: dict[str, dict[str, bytes]] = {}
        """What each release holds, by its id: that of an erasure, too, is made of keys and bytes."""
        self.lost: set[bytes] = set()
        """What somebody has removed from the output: it may be the only copy of what a release holds."""
        self.settled = True
        """Whether the last run ended well, and nobody has touched the output since."""

    @initialize(files=st.dictionaries(places, contents, max_size=6))
    def exports(self, files: dict[tuple[str, str, str], int]) -> None:
        put(self.root / "exports/faces_only/README", b"so that it is not empty")
        for number in range(3):  # so that there is always a release
            self.put(("training_data", "zoe", f"{number}.jpg"), face(100 + number))
        self.add_or_change_some(files)
        self.run(min_images=1, shards=2, link_mode="clone", again=False)

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    def put(self, file: tuple[str, str, str], data: bytes) -> None:
        self.files[file] = data
        put(self.root / "exports" / file[0] / path_of(file), data)
        self.before = fingerprint(self.root, without=NOT_AN_EXPORT)

    # What happens to the exports.

    @rule(files=st.dictionaries(places, contents, min_size=1, max_size=4))
    def add_or_change_some(self, files: dict[tuple[str, str, str], int]) -> None:
        for file, number in files.items():
            self.put(file, CONTENTS[number])

    @rule(file=places)
    def remove(self, file: tuple[str, str, str]) -> None:
        if self.files.pop(file, None) is not None:
            (self.root / "exports" / file[0] / path_of(file)).unlink()
            self.before = fingerprint(self.root, without=NOT_AN_EXPORT)

    @rule(file=places)
    def touch(self, file: tuple[str, str, str]) -> None:
        """The same bytes at another time: the file must be read again."""
        if file in self.files:
            self.put(file, self.files[file])

    # Who asks to be erased, or agrees to come back.

    @rule(listed=st.sets(people, max_size=2))
    def ask(self, listed: set[str]) -> None:
        self.listed = listed
        self.list.write_text("".join(f"{name}\n" for name in sorted(listed)), encoding="utf-8")
        self.settled = False

    # What happens to the output behind the tool's back.

    @rule(data=st.data())
    def meddle(self, data: st.DataObject) -> None:
        output = self.root / "merged"
        there = sorted(path for path in output.rglob("*") if path.is_file())
        if data.draw(st.booleans(), label="a stray") or not there:
            put(output / data.draw(st.sampled_from(["Ann Canary/stray.jpg", "stray.rec", "nobody/1.jpg"])), b"stray")
        else:
            gone = data.draw(st.sampled_from(there), label="gone")
            self.lost.add(gone.read_bytes())
            gone.unlink()
        self.settled = False

    # Runs.

    @rule(
        min_images=st.integers(1, 3),
        shards=st.integers(1, 2),
        link_mode=st.sampled_from(["clone", "copy"]),
        again=st.booleans(),
    )
    def run(self, min_images: int, shards: int, link_mode: str, *, again: bool) -> None:
        """A run to its end; `again`: as the run before, whose tasks were cleared."""
        self.number += not again
        run = make_run(
            self.dataset, f"manual__{self.number}", min_images=min_images, shards=shards, link_mode=link_mode
        )
        result = run_to_seal(run)
        self.finish(result)
        files = {file: data for file, data in self.files.items() if file[1] not in self.listed}
        expected = model(files, min_images)
        rows = result.ledger.select(["export", "path", "outcome"]).to_pylist()
        erased = [row for row in rows if row["outcome"] == "suppressed"]
        assert not any(row["path"] for row in erased)
        assert sorted(row["export"] for row in erased) == sorted(f[0] for f in self.files if f not in files)
        outcomes = [(f"{row['export']}/{row['path']}", row["outcome"]) for row in rows if row not in erased]
        assert sorted(outcomes) == sorted([("faces_only/README", "unmatched_name"), *expected.items()])
        kept = [file for file in files if expected[f"{file[0]}/{path_of(file)}"] == "kept"]
        found = sorted((key.partition("/")[0], data) for key, data in result.output.items())
        assert found == sorted((file[1], files[file]) for file in kept)
        self.know(result)

    @rule(
        at=st.integers(0, 180),
        after=st.booleans(),
        min_images=st.integers(1, 3),
        again=st.booleans(),
        back=st.booleans(),
    )
    def be_killed(self, at: int, min_images: int, *, after: bool, again: bool, back: bool) -> None:
        """A run that is killed at a call that changes the disk, if it comes to so many."""
        kept = self.kept()
        changes = {"release": kept[-1]} if back and kept else {"min_images": min_images}
        self.number += not again
        run = make_run(self.dataset, f"manual__{self.number}", **changes)
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            code = 1
            try:
                Points(at, after=after).watch()
                self.finish(run_to_seal(run))
                code = 0
            except CopyError:
                code = REFUSED
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        event("came to its end" if status == 0 else "was killed")
        may_be_refused = back and self.lost
        assert os.waitstatus_to_exitcode(status) in {0, -signal.SIGKILL, REFUSED if may_be_refused else 0}
        # Whether it was killed or not: what it sealed is known once another run has sealed it.
        self.settled = False

    @precondition(lambda self: self.outputs and self.kept())
    @rule(number=st.integers(0, 1), shards=st.integers(1, 3), by_old_id=st.booleans())
    def roll_back(self, number: int, shards: int, *, by_old_id: bool) -> None:
        kept = self.kept()
        folder = name = kept[min(number, len(kept) - 1)]
        formerly = {kept_id: history.formerly(make_run(self.dataset), kept_id) for kept_id in kept}
        # A release may have been made again since under an id that another had: then it is the one that is meant.
        old_ids = [old_id for old_id in formerly[folder] if old_id not in kept]
        if by_old_id and old_ids:
            name = old_ids[0]
            folder = next(kept_id for kept_id in kept if name in formerly[kept_id])
        output = without(self.listed, self.outputs[folder]) if folder in self.outputs else None
        self.number += 1
        try:
            result = run_to_seal(make_run(self.dataset, f"manual__{self.number}", release=name, shards=shards))
        except CopyError as error:
            assert "are no longer in the output" in str(error)  # noqa: PT017 it need not be raised
            assert self.lost & set((output or {}).values() or self.lost)
            self.settled = False
            return
        if output is not None:
            assert result.output == output
        if not self.listed:
            assert result.sealed.release_id == folder
        self.know(result)
        self.finish(result)

    def know(self, result: Result) -> None:
        """Keep what a release holds, that of a run and those that were made anew when people were erased."""
        assert result.sealed.release_id == release_id(result.output)
        self.outputs[result.sealed.release_id] = result.output
        for output in list(self.outputs.values()):
            others = without(self.listed, output)
            self.outputs[release_id(others)] = others

    def kept(self) -> list[str]:
        """Ids of the releases that can be rolled back to; none if a `seal` that made the only one anew was killed."""
        return [folder.name for folder in history.folders(make_run(self.dataset))]

    def finish(self, result: Result) -> None:
        """What the DAG does after `seal` that changes something: config and summary are only told."""
        receipt.write(result.run, rewrite.finish_erasure(result.run))
        receipt.close(result.run)
        retire(result.run, None)
        self.settled = True

    # What holds at every moment.

    @invariant()
    def the_exports_are_untouched(self) -> None:
        if self.files:
            assert fingerprint(self.root, without=NOT_AN_EXPORT) == self.before

    @invariant()
    def latest_is_true_and_nothing_is_left(self) -> None:
        latest = self.root / "merged.releases/latest.json"
        if not self.settled or not latest.exists():
            return
        folder = latest.parent / json.loads(latest.read_text())["release_id"]
        rows = tables.read(folder / release.MANIFEST_FILE, ["key", "sha256"])
        output = self.root / "merged"
        assert sorted(rows["key"].to_pylist()) == sorted(
            str(path.relative_to(output)) for path in output.rglob("*") if not path.is_dir()
        )
        assert not [path for path in latest.parent.rglob("*") if path.name.endswith(".tmp")]
        assert not (latest.parent / "previous.json").exists()
        assert not list(latest.parent.glob(".work/*/staging/*"))
        assert len(list(latest.parent.glob(".work/*"))) == 1
        assert len(self.kept()) <= 3

    @invariant()
    def nothing_names_who_is_erased(self) -> None:
        if self.settled and self.outputs:
            for name in self.listed:
                assert traces(self.root / "merged", name, []) == []
                assert traces(self.root / "merged.releases", name, []) == []


TestMerge = Merge.TestCase
TestMerge.settings = settings(
    max_examples=max(1, CASES // STEPS),
    stateful_step_count=STEPS,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a failure is told as it was drawn
    suppress_health_check=list(HealthCheck),
)
