"""A worker without the shared volume, or with one that is shown late, says so before it touches anything."""

from pathlib import Path

import pytest

from include.faceset.run import owner, workers
from tests.unit.faceset.pipeline import make_dataset, make_run

LOCAL = "21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
NFS = "40 21 0:35 / {point} rw,relatime shared:9 - nfs4 nas:/merged rw,vers=4.2,{options}hard,proto=tcp\n"
AT_ONCE = "acregmin=1,acregmax=1,acdirmin=1,acdirmax=1,"


def test_workers_that_share_the_volume_see_the_same(tmp_path: Path) -> None:
    run = make_run(make_dataset(tmp_path))
    assert owner.take(run, lambda _: False) is None
    noted = workers.seen(run, "one")
    workers.check_shared(run, noted, "one")
    workers.check_shared(run, noted, "two")


@pytest.mark.parametrize("has_one_of_its_own", [False, True])
def test_a_worker_without_the_volume_says_so_and_changes_nothing(tmp_path: Path, has_one_of_its_own: bool) -> None:
    run = make_run(make_dataset(tmp_path))
    noted = workers.seen(run, "one")
    elsewhere = make_run(make_dataset(tmp_path / "two", queue="faces"))
    if has_one_of_its_own:
        workers.seen(elsewhere, "two")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(workers.NotSharedError) as raised:
        workers.check_shared(elsewhere, noted, "two")
    assert str(raised.value).startswith(f"two does not see the {elsewhere.releases} of one")
    assert "mount the same volume there on every worker of the queue 'faces'" in str(raised.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("mounts", "late"),
    [
        (LOCAL, 0),
        (LOCAL + NFS.format(point="/data/merged", options=""), 60),
        (LOCAL + NFS.format(point="/data", options=AT_ONCE), 1),
        (LOCAL + NFS.format(point="/data", options="noac,"), 0),
        (LOCAL + NFS.format(point="/data", options="acdirmax=3,"), 60),
        (LOCAL + NFS.format(point="/data/merge", options=""), 0),
        (NFS.format(point="/", options="") + LOCAL.replace(" / / ", " / /data/merged "), 0),
        (LOCAL + NFS.format(point="/data/merged/old\\040exports", options=""), 0),
    ],
)
def test_how_late_a_mount_shows_what_others_wrote(mounts: str, late: int) -> None:
    assert workers.shown_late(Path("/data/merged/set.releases"), mounts) == late


@pytest.mark.parametrize(
    ("point", "written"),
    [
        ("/données/visages", "/données/visages"),
        ("/data/two words", "/data/two\\040words"),
        ("/data/back\\slash", "/data/back\\134slash"),
        ("/data/顔", "/data/顔"),
    ],
)
def test_a_mount_point_is_known_by_any_name(point: str, written: str) -> None:
    assert workers.shown_late(Path(point, "set.releases"), LOCAL + NFS.format(point=written, options="")) == 60


def test_a_volume_that_is_shown_late_is_refused_where_workers_are_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(make_dataset(tmp_path))
    noted = workers.seen(run, "one")
    mounts = tmp_path / "mountinfo"
    monkeypatch.setattr(workers, "_MOUNTS", mounts)
    mounts.write_text(LOCAL + NFS.format(point=tmp_path.resolve(), options=""))
    workers.check_shared(run, noted, "one")
    with pytest.raises(workers.NotSharedError, match="60 s late: mount it with actimeo=1"):
        workers.check_shared(run, noted, "two")
    mounts.write_text(LOCAL + NFS.format(point=tmp_path.resolve(), options=AT_ONCE))
    workers.check_shared(run, noted, "two")
