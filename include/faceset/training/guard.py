"""Whether a training would start on what was proven; its text stands in every rendered config.

It runs on a training host, on each rank: nothing but Python's own library, except that pyarrow reads the release's
tables where they were downloaded too.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, TextIO

SKIP = "FACESET_SKIP_CHECK"
"""Set to 1 in the environment of a training, it starts unchecked."""
REMEDY = "Download the release again, as its SUMMARY.md says, or take the config of the release that lies there"
SHOWN = 5
AT_ONCE = 8
IMAGES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What torchvision's ImageFolder takes for an image (torchvision/datasets/folder.py)."""


class NotTheReleaseError(RuntimeError):
    """What lies where the training would read is not what was proven."""


def check_before_training(rec: str, sealed: Mapping[str, Any]) -> None:
    """Check what a training is about to read, unless the environment says not to.

    Each rank looks into its own share of the folders, so that all together look into each of them.

    Args:
        rec: where the trainer reads.
        sealed: what was proven: `form`, `release_id`, `classes` and `images` (numbers), `names` (SHA-256 of the names
            of the classes in order, a newline after each), and of the record form `sizes` of its files in bytes and
            their `sha256`.

    Raises:
        NotTheReleaseError: with the numbers and the remedy.
    """
    if os.environ.get(SKIP, "") in {"", "0"}:
        rank, ranks = (int(os.environ.get(name, otherwise)) for name, otherwise in (("RANK", 0), ("WORLD_SIZE", 1)))
        check(rec, sealed, rank, ranks)


def check(rec: str, sealed: Mapping[str, Any], rank: int = 0, ranks: int = 1) -> str:
    """Check folders, or sizes of the two files; what was found, in a line. Raises NotTheReleaseError."""
    if rec == "synthetic":
        refuse(sealed, "rec is 'synthetic', for which the trainer invents images", "Correct data_root of the dataset")
    if not Path(rec).is_dir():
        refuse(sealed, f"there is no folder {rec}", "Download it, as the release's SUMMARY.md says")
    return check_records(rec, sealed) if sealed["form"] == "record" else check_folders(rec, sealed, rank, ranks)


def check_folders(rec: str, sealed: Mapping[str, Any], rank: int, ranks: int) -> str:
    """Check that the folders are exactly the classes, none of them empty, and that nothing else would be read."""
    if stale := [name for name in ("train.rec", "train.idx") if Path(rec, name).exists()]:
        refuse(sealed, f"{' and '.join(stale)} in {rec} would be read instead of the images", "Move them elsewhere")
    with os.scandir(rec) as entries:
        folders = sorted(entry.name for entry in entries if entry.is_dir())
    if digest_names(folders) != sealed["names"]:
        refuse(sealed, f"{rec} has {len(folders):,} folders; {_differing(rec, folders, sealed)}", REMEDY)
    mine = folders[rank::ranks]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        shares = pool.map(lambda start: [one for one in mine[start::AT_ONCE] if _is_empty(rec, one)], range(AT_ONCE))
        empty = sorted(name for share in shares for name in share)
    if empty:
        refuse(sealed, f"{len(empty):,} folders in {rec} hold no image: {_some(empty)}", REMEDY)
    return f"{len(folders):,} folders are the classes of release {sealed['release_id']}, none is empty"


def check_records(rec: str, sealed: Mapping[str, Any]) -> str:
    """Check that the two files of the record form have the sizes that were proven, and that the index is the same."""
    for name, size in sealed["sizes"].items():
        path = Path(rec, name)
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            said = "is not there" if found is None else f"has {found:,} bytes instead of {size:,}"
            refuse(sealed, f"{path} {said}", REMEDY)
    index = Path(rec, "train.idx")
    if digest_file(index) != sealed["sha256"]["train.idx"]:
        refuse(sealed, f"{index} holds other bytes than the release's", REMEDY)
    return f"train.rec and train.idx have the sizes of release {sealed['release_id']}: {sealed['images']:,} records"


def refuse(sealed: Mapping[str, Any], found: str, remedy: str) -> NoReturn:
    """Raise NotTheReleaseError."""
    raise NotTheReleaseError(
        f"this config is of release {sealed['release_id']}, with {sealed['classes']:,} classes and "
        f"{sealed['images']:,} images, but {found}. {remedy}. ({SKIP}=1 skips this check.)"
    )


def digest_names(names: list[str]) -> str:
    """SHA-256 of sorted names, a newline after each."""
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode(errors="surrogateescape")).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _is_empty(rec: str, name: str) -> bool:
    """Whether ImageFolder would find no image in a folder; nearly always the first entry is one."""
    with os.scandir(f"{rec}/{name}") as entries:
        return not any(one.name.lower().endswith(IMAGES) or one.is_dir() for one in entries)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(repr(name) for name in names[:SHOWN]) + more


def _differing(rec: str, folders: list[str], sealed: Mapping[str, Any]) -> str:
    table = find_table(rec, sealed, "classes.parquet")
    try:
        import pyarrow.parquet as pq
    except ImportError:
        table = None
    if table is None:
        return (
            f"which of them differ could be told with pyarrow and the release's classes.parquet in "
            f"{beside(rec, sealed)}"
        )
    expected = set(pq.read_table(table, columns=["identity"])["identity"].to_pylist())
    missing, surplus = sorted(expected - set(folders)), sorted(set(folders) - expected)
    told = ((missing, "missing"), (surplus, "surplus"))
    return "; ".join(f"{len(names):,} {word}: {_some(names)}" for names, word in told if names)


def beside(rec: str, sealed: Mapping[str, Any], suffix: str = ".downloaded") -> Path:
    """Where the release's own files lie, beside what the trainer reads: downloaded, or as the run made them."""
    return Path(f"{rec.rstrip('/')}{suffix}", sealed["release_id"])


def find_table(rec: str, sealed: Mapping[str, Any], name: str) -> Path | None:
    """Path of a table of the release: beside the images, or beside this config; None if it is in neither place."""
    here = Path(__file__).resolve().parent
    places = [
        beside(rec, sealed),
        beside(rec, sealed, ".releases"),
        *([here] if here.name == sealed["release_id"] else []),
    ]
    return next((place / name for place in places if (place / name).exists()), None)


def check_all(rec: str, sealed: Mapping[str, Any], say: Callable[[str], None]) -> str:
    """Compare the size and the SHA-256 of every file with the release; what was found. Raises NotTheReleaseError."""
    say(check(rec, sealed))
    if sealed["form"] == "record":
        path = Path(rec, "train.rec")
        say(f"reading {path.stat().st_size:,} bytes")
        if digest_file(path) != sealed["sha256"]["train.rec"]:
            refuse(sealed, f"{path} holds other bytes than the release's", REMEDY)
        return "train.rec and train.idx hold exactly the bytes of the release"
    manifest = find_table(rec, sealed, "manifest.parquet")
    if manifest is None:
        refuse(sealed, f"its manifest.parquet is not in {beside(rec, sealed)}", "Download it, as SUMMARY.md says")
    wrong: list[str] = []
    done, keys = 0, set()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for rows in _batches(manifest):
            wrong += filter(None, pool.map(lambda row: _compare(rec, *row), rows))
            keys |= {key for key, _, _ in rows}
            done += len(rows)
            say(f"{done:,} of {sealed['images']:,} files compared, {len(wrong):,} wrong")
    wrong += (f"{key} is surplus" for key in _files(rec) if key not in keys)
    if wrong:
        shown = "; ".join(wrong[:SHOWN]) + (f"; and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else "")
        refuse(sealed, f"{len(wrong):,} files of {rec} differ: {shown}", f"Delete these files. {REMEDY}")
    return f"{done:,} files hold exactly the bytes of the release, and there is no other"


def _batches(manifest: Path) -> Iterator[list[tuple[str, int, bytes]]]:
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise NotTheReleaseError("--full reads the release's manifest.parquet: pip install pyarrow") from None
    for batch in pq.ParquetFile(manifest).iter_batches(10_000, columns=["key", "size", "sha256"]):
        yield [(row["key"], row["size"], row["sha256"]) for row in batch.to_pylist()]


def _compare(rec: str, key: str, size: int, sha256: bytes) -> str | None:
    path = Path(rec, key)
    try:
        found = path.stat().st_size
        if found != size:
            return f"{key} has {found:,} bytes instead of {size:,}"
        return None if digest_file(path) == sha256.hex() else f"{key} holds other bytes"
    except OSError as error:
        return f"{key}: {error.strerror}"


def _files(rec: str) -> Iterator[str]:
    """Keys of all files in the folders that ImageFolder takes for classes."""
    for folder, _, files in os.walk(rec, followlinks=True):
        if folder != rec:
            yield from (Path(folder, name).relative_to(rec).as_posix() for name in sorted(files))


def main(rec: str, sealed: Mapping[str, Any]) -> int:
    """What ``python <config>.py [--full]`` prints, and its exit status."""
    if sys.argv[1:] not in ([], ["--full"]):
        sys.stderr.write(f"usage: python {sys.argv[0]} [--full]\n")
        return 2
    try:
        found = check_all(rec, sealed, _tell_progress) if sys.argv[1:] else check(rec, sealed)
    except NotTheReleaseError as error:
        _say(str(error), sys.stderr)
        return 1
    _say(f"{rec}: {found}", sys.stdout)
    return 0


def _tell_progress(line: str) -> None:
    _say(line, sys.stderr)


def _say(line: str, stream: TextIO) -> None:
    stream.write(f"{line}\n")
    stream.flush()
