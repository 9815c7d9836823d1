"""What a file held when it was read, in a new place: cloned, linked or written, and exactly that."""

import errno
import fcntl
import hashlib
import os
import tempfile
from pathlib import Path

from include.faceset.declared.params import LinkMode
from include.faceset.exports.opening import OpenFile
from include.faceset.ground import files
from include.faceset.images import large
from include.faceset.images.large import Large

_FICLONE = 0x40049409
"""ioctl_ficlone(2): share the bytes of a file copy-on-write."""
_NOT_CLONEABLE = {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM}
_NOT_LINKABLE = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def stage(original: OpenFile | None, content: bytes | Large, target: str, link_mode: LinkMode) -> os.stat_result | None:
    """Make `target` hold exactly `content`; None if its original has changed since it was read.

    What has no `original` on a disk is written, whatever the mode.
    """
    if original is not None and link_mode == "hardlink":
        try:
            os.link(original.name, target, src_dir_fd=original.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in _NOT_LINKABLE:
                raise
        else:
            # The link was made by name, and the name may lead to another file than the one that was read.
            linked = os.lstat(target)
            same = (linked.st_ino, linked.st_size, linked.st_mtime_ns) == (
                original.status.st_ino,
                original.status.st_size,
                original.status.st_mtime_ns,
            )
            if not same:
                Path(target).unlink()
            return linked if same else None
    written = os.open(target, _CREATE, files.FILE_MODE)
    try:
        if original is not None and link_mode == "clone" and _cloned(original.descriptor, written):
            is_right = _holds(written, content)
        else:
            is_right = _wrote(written, content)
        if not is_right:
            Path(target).unlink()
            return None
        return os.fstat(written)
    finally:
        os.close(written)


def _holds(descriptor: int, content: bytes | Large) -> bool:
    if isinstance(content, bytes):
        return os.pread(descriptor, len(content) + 1, 0) == content
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return large.sha256(file) == content.sha256


def _wrote(descriptor: int, content: bytes | Large) -> bool:
    """Write all of it; False if it was not what it should be."""
    if isinstance(content, bytes):
        _write(descriptor, content)
        return True
    digest = hashlib.sha256()
    for block in large.blocks(content.file):
        digest.update(block)
        _write(descriptor, block)
    return digest.digest() == content.sha256


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


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
