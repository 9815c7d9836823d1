"""Where a run keeps its things. Everything it writes lies below `output`, `<output>.records` or `<output>.releases`.

A dataset that lies in S3 alone has no output; its file then names the folder of the releases.

::

    <output>/<identity>/<file>              the merged dataset, and nothing else
    <output>.records/<release id>/          train.rec and train.idx, where the dataset has the form `record`
    <output>.releases/latest.json           which release the merged dataset holds
    <output>.releases/<release id>/         sealed: manifest, ledger, class index, config, summary
    <output>.releases/parts/export=E/       the manifest of each part of a dated export, as last scanned
    <output>.releases/erasures/             receipts of people who were erased, which name nobody
    <output>.releases/labels.parquet        the class number of each identity, for good
    <output>.releases/removed/              bytes that the output no longer holds but a kept release does, by SHA-256
    <output>.releases/.work/<run>/          what passes between the steps of one run
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from include.faceset.declared.dataset import Dataset
from include.faceset.declared.export import Export
from include.faceset.declared.params import RunParams
from include.faceset.ports import Source

RELEASE_FILE = "release.json"
"""What a folder must hold to be a release: it is put there last."""


@dataclass(frozen=True)
class Run:
    """One run of one dataset: what was declared, what the run chose, and its name.

    `partitions` are the parts to scan of exports that arrive in parts; None: all that are there. `sources` are the
    exports that lie in S3, by name. `turn` is the run's number among those that began on this output, and `after` the
    turn of the last one of another run that had changed something by then (turns.py); 0: none that is known.
    """

    dataset: Dataset
    params: RunParams
    run_id: str
    partitions: tuple[str, ...] | None = None
    sources: Mapping[str, Source] = field(default_factory=dict, repr=False, compare=False)
    turn: int = 0
    after: int = 0

    @property
    def on_disk(self) -> bool:
        """Whether the merged dataset lies on a disk too; if not, the destination alone holds it."""
        return self.params.output is not None

    @cached_property
    def output(self) -> Path:
        """Folder of the merged dataset, of a run that has it `on_disk`."""
        if self.params.output is None:
            raise RuntimeError("this run has no output; this is a fault of the program, please report it")
        return Path(self.params.output)

    @cached_property
    def releases(self) -> Path:
        return Path(f"{self.output}.releases" if self.on_disk else str(self.dataset.releases))

    @cached_property
    def records(self) -> Path:
        """Folder of the records; of a dataset without output only this run's, until they are published."""
        return Path(f"{self.output}.records") if self.on_disk else self.work / "records"

    @property
    def name_of_output(self) -> str:
        """What runs take from each other, for a message."""
        return self.params.output or str(self.releases)

    def folder(self, export: Export) -> Path:
        """Folder of an export on a disk; paths of its manifest are relative to it."""
        return export.folder(Path(self.params.local_source or "/"))

    @property
    def latest(self) -> Path:
        return self.releases / "latest.json"

    @property
    def previous(self) -> Path:
        """Where `latest.json` waits while the merged dataset is being changed."""
        return self.releases / "previous.json"

    @property
    def all_work(self) -> Path:
        return self.releases / ".work"

    @property
    def work(self) -> Path:
        """The run's own folder; its name is readable and differs for every run id.

        It is another one where the run began again after another run changed something: what it knew is outdated.
        """
        readable = re.sub(r"[^A-Za-z0-9.-]+", "-", self.run_id).strip(".-")[:80]
        return self.all_work / f"{readable}-{hashlib.sha256(self.run_id.encode()).hexdigest()[:8]}-{self.after}"

    @property
    def staging(self) -> Path:
        return self.work / "staging"

    @property
    def owner(self) -> Path:
        """A folder that says which run works on the output (see owner.py)."""
        return self.releases / ".owner"

    @property
    def labels(self) -> Path:
        """The class number that each identity was given (see release/labels.py)."""
        return self.releases / "labels.parquet"

    @property
    def removed(self) -> Path:
        return self.releases / "removed"

    def parts(self, export: str) -> Path:
        """Manifests of the parts that are known of an export."""
        return self.releases / "parts" / f"export={export}"

    def manifest(self, export: str, partition: str | None = None) -> Path:
        """Where the scan of an export, or of a part of it, goes. A dry run changes nothing that other runs see."""
        if partition is None:
            return self.work / "manifest" / f"export={export}.parquet"
        folder = self.work / "manifest" / f"export={export}" if self.params.dry_run else self.parts(export)
        return folder / part_file(partition)

    def selected(self, shard: int) -> Path:
        return self.work / "selected" / shard_file(shard)

    def filtered(self, shard: int) -> Path:
        """Ledger rows that `filter_manifest` settled."""
        return self.work / "filtered" / shard_file(shard)

    @property
    def disputes(self) -> Path:
        return self.work / "disputes.parquet"

    def copied(self, shard: int) -> Path:
        return self.work / "copied" / shard_file(shard)

    def release(self, release_id: str) -> Path:
        return self.releases / release_id

    def keeps(self, release_id: str) -> bool:
        """Whether a release lies among the `releases`, whole."""
        return (self.release(release_id) / RELEASE_FILE).exists()

    def sync_record(self, of: str = "") -> Path:
        """What the PUTs of earlier syncs to this destination returned; `of` is what beside the images was brought."""
        digest = hashlib.sha256(f"{self.params.destination}{of}".encode()).hexdigest()[:12]
        return self.releases / ".sync" / f"{digest}.parquet"


def part_file(partition: str) -> str:
    return f"partition={partition}.parquet"


def shard_file(shard: int) -> str:
    return f"shard={shard:03d}.parquet"
