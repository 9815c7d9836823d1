"""The bytes of a file that was read, in a new place: cloned, linked or written, and exactly those bytes."""

import errno
import fcntl
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from include.faceset import files
from include.faceset.params import LinkMode

_FICLONE = 0x40049409
"""ioctl_ficlone(2): share the bytes of a file copy-on-write."""
_NOT_CLONEABLE = {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM}
_NOT_LINKABLE = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Source(NamedTuple):
    """A file of an export that was read: its folder's descriptor, its name, its own descriptor, its status then."""

    folder: int
    name: str
    descriptor: int
    status: os.stat_result


def stage(source: Source | None, data: bytes, target: str, link_mode: LinkMode) -> os.stat_result | None:
    """Make `target` hold exactly `data`; None if the source changed under a clone or link.

    What has no `source` on a disk is written, whatever the mode.
    """
    if source is not None and link_mode == "hardlink":
        try:
            os.link(source.name, target, src_dir_fd=source.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in _NOT_LINKABLE:
                raise
        else:
            linked = os.lstat(target)
            same = (linked.st_ino, linked.st_size, linked.st_mtime_ns) == (
                source.status.st_ino,
                source.status.st_size,
                source.status.st_mtime_ns,
            )
            if not same:
                Path(target).unlink()
            return linked if same else None
    written = os.open(target, _CREATE, files.FILE_MODE)
    try:
        if source is not None and link_mode == "clone" and _cloned(source.descriptor, written):
            if os.pread(written, len(data) + 1, 0) != data:
                Path(target).unlink()
                return None
        else:
            view = memoryview(data)
            while view:
                view = view[os.write(written, view) :]
        return os.fstat(written)
    finally:
        os.close(written)


def feasible(link_mode: LinkMode, folder: Path) -> LinkMode:
    """The mode, or `copy` where a folder's file system cannot clone: so that it is not tried for every file."""
    if link_mode != "clone":
        return link_mode
    with tempfile.TemporaryFile(dir=folder) as one, tempfile.TemporaryFile(dir=folder) as other:
        one.write(b"clone")
        one.flush()
        return "clone" if _cloned(one.fileno(), other.fileno()) else "copy"


def _cloned(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno not in _NOT_CLONEABLE:
            raise
        return False
    return True
