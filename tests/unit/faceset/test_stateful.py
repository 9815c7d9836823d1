"""Exports that change, runs with other params, kills, roll-backs and strangers in the output, in any order.

A case is one step of a machine that hypothesis draws: CI does about 2,000 of them; `make properties` ten times as
many. After every run the output, the ledger and the releases are what a model of a few lines says; after every step
`latest.json` is true, and the exports are as they were.
"""

import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from include.faceset import release, summary, tables
from include.faceset.copy_shard import CopyError
from tests.kills.points import Points
from tests.unit.faceset.pipeline import FLAT, TREE, Result, face, make_dataset, make_run, put, run_to_seal
from tests.unit.faceset.test_properties import BAD, GOOD, Files, fingerprint, model, path_of

CASES = int(os.environ.get("CASES", "2000"))
STEPS = 40
REFUSED = 3
"""Exit code of a run that was to roll back to what somebody has removed."""

EXPORTS = [FLAT, TREE]
places = st.one_of(
    st.tuples(st.just("training_data"), st.sampled_from(["ann", "ben", "cyd"]), st.sampled_from(["1.jpg", "2.jpg"])),
    st.tuples(st.just("faces_only"), st.sampled_from(["ann", "ben", "cyd"]), st.just("_face.png")),
)
CONTENTS = [*GOOD, *BAD]
contents = st.integers(0, len(CONTENTS) - 1)


class Merge(RuleBasedStateMachine):
    """One dataset's exports, output and releases, and what should be in them."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.files: Files = {}
        self.dataset = make_dataset(self.root, EXPORTS, shards=2, keep_releases=2, min_images=1)
        self.number = 0
        self.outputs: dict[str, dict[str, bytes]] = {}
        """What each release held, by its id."""
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
        self.before = fingerprint(self.root, without={"merged", "merged.releases"})

    # What happens to the exports.

    @rule(files=st.dictionaries(places, contents, min_size=1, max_size=4))
    def add_or_change_some(self, files: dict[tuple[str, str, str], int]) -> None:
        for file, number in files.items():
            self.put(file, CONTENTS[number])

    @rule(file=places)
    def remove(self, file: tuple[str, str, str]) -> None:
        if self.files.pop(file, None) is not None:
            (self.root / "exports" / file[0] / path_of(file)).unlink()
            self.before = fingerprint(self.root, without={"merged", "merged.releases"})

    @rule(file=places)
    def touch(self, file: tuple[str, str, str]) -> None:
        """The same bytes at another time: the file must be read again."""
        if file in self.files:
            self.put(file, self.files[file])

    # What happens to the output behind the tool's back.

    @rule(data=st.data())
    def meddle(self, data: st.DataObject) -> None:
        output = self.root / "merged"
        there = sorted(path for path in output.rglob("*") if path.is_file())
        if data.draw(st.booleans(), label="a stray") or not there:
            put(output / data.draw(st.sampled_from(["ann/stray.jpg", "stray.rec", "nobody/1.jpg"])), b"stray")
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
        expected = model(self.files, min_images)
        outcomes = {path: outcome for path, outcome in result.outcomes.items() if not path.endswith("README")}
        assert outcomes == expected
        kept = [file for file in self.files if expected[f"{file[0]}/{path_of(file)}"] == "kept"]
        found = sorted((key.partition("/")[0], data) for key, data in result.output.items())
        assert found == sorted((file[1], self.files[file]) for file in kept)
        known = self.outputs.setdefault(result.sealed.release_id, result.output)
        assert known == result.output

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
    @rule(number=st.integers(0, 1), shards=st.integers(1, 3))
    def roll_back(self, number: int, shards: int) -> None:
        kept = self.kept()
        name = kept[min(number, len(kept) - 1)]
        self.number += 1
        try:
            result = run_to_seal(make_run(self.dataset, f"manual__{self.number}", release=name, shards=shards))
        except CopyError as error:
            assert "are no longer in the output" in str(error)  # noqa: PT017 it need not be raised
            assert self.lost & set(self.outputs.get(name, {}).values() or self.lost)
            self.settled = False
            return
        assert result.sealed.release_id == name
        if name in self.outputs:
            assert result.output == self.outputs[name]
        self.finish(result)

    def kept(self) -> list[str]:
        """Ids of the releases that can be rolled back to; none if a `seal` that made the only one anew was killed."""
        return [folder.name for folder in release.folders(make_run(self.dataset))]

    def finish(self, result: Result) -> None:
        """What the DAG does after `seal` that changes something: config and summary are only told."""
        summary.clean_up(result.run)
        self.settled = True

    # What holds at every moment.

    @invariant()
    def the_exports_are_untouched(self) -> None:
        if self.files:
            assert fingerprint(self.root, without={"merged", "merged.releases"}) == self.before

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


TestMerge = Merge.TestCase
TestMerge.settings = settings(
    max_examples=max(1, CASES // STEPS),
    stateful_step_count=STEPS,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a failure is told as it was drawn
    suppress_health_check=list(HealthCheck),
)
