"""Where objects go: a bucket and a prefix in it."""

from __future__ import annotations

from dataclasses import dataclass

from s3_sync.errors import InvalidTarget

RELEASES = ".releases"
RECORDS = ".records"
POINTER = "latest.json"
LEASE = "lease.json"

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html reserves these endings.
NO_BUCKETS = {
    "--x-s3": "a directory bucket",
    "--xa-s3": "an access point of a directory bucket",
    "--table-s3": "a table bucket",
    "--ol-s3": "an Object Lambda access point",
    "-s3alias": "an access point",
    ".mrap": "a multi-Region access point",
}


@dataclass(frozen=True)
class S3Target:
    """A non-empty ``prefix`` that ends with ``/``, in ``bucket``."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, uri: str) -> S3Target:
        """Read ``s3://bucket/prefix/`` (the last slash may be left out).

        Raises InvalidTarget: a whole bucket is never a target, and neither is a prefix that S3 clients read in
        different ways (``//``, ``.`` and ``..`` segments, control characters).
        """
        scheme, separator, rest = uri.partition("://")
        bucket, _, path = rest.partition("/")
        segments = path.removesuffix("/").split("/")
        if (scheme, separator) != ("s3", "://") or not bucket:
            raise InvalidTarget(f"{uri!r} is no destination: write s3://bucket/prefix/")
        check_bucket(bucket)
        if segments == [""]:
            raise InvalidTarget(f"{uri!r} names a whole bucket: write a prefix too, s3://{bucket}/prefix/")
        if any(part in {"", ".", ".."} for part in segments) or not path.isprintable():
            raise InvalidTarget(
                f"{uri!r} has an empty segment, a '.' or '..' segment or a control character: S3 takes these as"
                " plain names while other tools do not. Choose another prefix"
            )
        return cls(bucket, "/".join(segments) + "/")

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def key(self, relative: str) -> str:
        """Return the full key of ``relative``, a key relative to the prefix."""
        return self.prefix + relative

    def below(self, relative: str) -> S3Target:
        """Return the target ``relative`` (``name`` or ``name/other``) under this one."""
        return self.parse(f"{self.uri}{relative}")

    @property
    def releases(self) -> S3Target:
        """Where it is said, beside this target, what it holds and who changes it."""
        return self.sibling(RELEASES)

    @property
    def records(self) -> S3Target:
        """Where the same is kept, beside this target, in the form of few large files."""
        return self.sibling(RECORDS)

    def sibling(self, suffix: str) -> S3Target:
        """Return the target beside this one: ``s3://b/set/`` with suffix ``.releases``: ``s3://b/set.releases/``."""
        return self.parse(f"{self.uri.removesuffix('/')}{suffix}/")


def check_bucket(bucket: str) -> None:
    """Raise InvalidTarget for what only looks like a bucket: an access point, or a bucket with rules of its own.

    They list in no order, give no MD5, or lack versions, policies or conditions, by which all else here goes.
    """
    what = "an ARN, of an access point for example" if ":" in bucket else None
    what = what or next((said for end, said in NO_BUCKETS.items() if bucket.endswith(end)), None)
    if what:
        raise InvalidTarget(f"{bucket!r} is the name of {what}: name a general purpose bucket itself")
