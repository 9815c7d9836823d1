"""Small objects to ask a server questions with, which leave nothing behind."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from uuid import uuid4

from botocore.config import Config
from botocore.exceptions import ClientError

from s3_sync.bucket.retry import FOR_NOW, FOR_NOW_STATUS, ask
from s3_sync.errors import NoAnswer, cause
from s3_sync.sync.delete import remove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3_sync.bucket.prefix import S3Prefix

T = TypeVar("T")


log = logging.getLogger(__name__)

Quoting = Literal["quoted", "bare"]


ONE, TWO, THREE = b"one", b"two", b"three"
NAME = ".probe-"


class Probe:
    """Small objects under ``beside`` to ask questions with, by the connection's boto3 client.

    ``send(call, late=…, **arguments)`` sends a request about the bucket, which may be ``late`` if
    it only tidies up, and raises ClientError where it is refused. All objects go when the block of `objects` ends, with
    the versions that they got.
    """

    def __init__(self, prefix: S3Prefix, send: Callable[..., Any]) -> None:
        self.prefix, self.client, self.send = prefix, prefix.client, send

    @classmethod
    def of(cls, prefix: S3Prefix) -> Probe:
        """Return one that asks until S3 answers, as everything but a preflight does."""

        def send(call: Callable[..., Any], *, late: bool = False, **arguments: Any) -> Any:  # noqa: ARG001
            return ask(prefix.uri, lambda: call(Bucket=prefix.bucket, **arguments))

        return cls(prefix, send)

    @contextmanager
    def objects(self, *endings: str) -> Iterator[list[ProbeObject]]:
        name = self.prefix.key(f"{NAME}{uuid4().hex}")
        objects = [ProbeObject(self, f"{name}{ending}") for ending in endings]
        try:
            yield objects
        finally:
            self._clear(name, [one for one in objects if one.written])

    def listed(self, prefix: str) -> list[str]:
        """Return the keys that begin with ``prefix``, in the server's order."""
        answer = self.send(self.client.list_objects_v2, Prefix=prefix)
        return [item["Key"] for item in answer.get("Contents", ())]

    def _clear(self, name: str, written: list[ProbeObject]) -> None:
        """Delete what was written: in a bucket with versioning by its versions, so that no marker is left either."""
        if any(one.versioned for one in written):
            try:
                self._delete_versions(name)
            except ClientError:  # versions may be neither listed nor deleted: a marker on top will do
                pass
            else:
                return
        for one in written:
            one.delete(late=True)

    def _delete_versions(self, name: str) -> None:
        before: list[dict[str, str]] = []
        # Some servers say that they have deleted a version, and keep it: a page that comes again is the last.
        while (found := self._versions(name)) and found != before:
            for version in found:
                where = {"Key": version["Key"], "VersionId": version["VersionId"]}
                self.send(self.client.delete_object, late=True, **where)
            before = found

    def _versions(self, name: str) -> list[dict[str, str]]:
        """Return the first page of what there is of the keys that begin with ``name``.

        One that is empty is asked for once more, as `asking.list_objects` does.
        """
        for _ in range(2):
            page = self.send(self.client.list_object_versions, late=True, Prefix=name)
            if found := [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]:
                return found
        return []


class ProbeObject:
    """One of them. Its methods return None, or False, where the server refuses for another reason than permission.

    ``written`` tells whether it may be there, ``versioned`` whether the server named a version of it.
    """

    def __init__(self, probe: Probe, key: str) -> None:
        self.probe, self.key = probe, key
        self.written = self.versioned = False

    def put(self, content: bytes, **condition: str) -> str | None:
        """Write it; return its ETag as the server wrote it."""
        return self._written(self.probe.client.put_object, Body=content, **condition)

    def copy(self, other: ProbeObject, **condition: str) -> str | None:
        """Make it a copy of another; return its ETag."""
        source = {"Bucket": self.probe.prefix.bucket, "Key": other.key}
        return self._written(self.probe.client.copy_object, CopySource=source, **condition)

    def takes_damaged(self, content: bytes) -> bool:
        """Send an upload of which a byte was changed after it had been signed; whether the server writes it."""
        signing = {**(self.probe.client.meta.config.s3 or {}), "payload_signing_enabled": True}
        client = self.probe.prefix.connection.new_client(Config(s3=signing))
        client.meta.events.register("before-send.s3.PutObject", _damage)

        def put(**where: Any) -> dict[str, Any] | None:
            try:
                answer: dict[str, Any] = client.put_object(**where, Body=content)
            except ClientError as error:
                # Each of them has a code of its own for it. Some say that the signature does not fit, which is as good.
                if error.response["ResponseMetadata"]["HTTPStatusCode"] // 100 == 4:
                    return None
                raise
            return answer

        taken = self._written(put) is not None
        self.written = taken
        return taken

    def _written(self, call: Callable[..., Any], **arguments: Any) -> str | None:
        self.written = True

        def write(**where: Any) -> str | None:
            answer = call(**where)
            if answer is None:
                return None
            self.versioned |= "VersionId" in answer
            etag: str = answer.get("CopyObjectResult", answer)["ETag"]
            return etag

        return self._asked(write, **arguments, **self.probe.prefix.connection.encryption)

    def content(self) -> bytes | None:
        def read(**where: Any) -> bytes:
            content: bytes = self.probe.client.get_object(**where)["Body"].read()
            return content

        return self._asked(read)

    def kept_sum(self) -> str:
        """Return the SHA-256 that the server tells of it, in base64; an empty text if it tells none."""
        answer = self._asked(self.probe.client.head_object, ChecksumMode="ENABLED") or {}
        return str(answer.get("ChecksumSHA256", ""))

    def delete(self, *, late: bool = False) -> None:
        self.probe.send(self.probe.client.delete_object, late=late, Key=self.key)

    def _asked(self, call: Callable[..., T], **arguments: Any) -> T | None:
        try:
            answer: T = self.probe.send(call, Key=self.key, **arguments)
        except ClientError as error:
            if not is_forbidden(error):
                raise
            return None
        return answer


def is_forbidden(error: ClientError) -> bool:
    """Whether a server has understood a request and says no, for another reason than that the caller may not."""
    status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
    code = error.response["Error"].get("Code", "")
    return code not in FOR_NOW and (400 <= status < 500 or status == 501) and status not in {401, 403, *FOR_NOW_STATUS}


def written(etag: str, quoting: Quoting) -> str:
    """Return an ETag, with quotes or without, as a condition names it."""
    bare = etag.strip('"')
    return bare if quoting == "bare" else f'"{bare}"'


def sweep(prefix: S3Prefix) -> None:
    """Remove what questions that were killed have left. (One that is being asked meanwhile has another round.)"""
    where = {"Bucket": prefix.bucket, "Prefix": prefix.key(NAME)}
    try:
        page = ask(prefix.uri, lambda: prefix.client.list_objects_v2(**where))
        if left := [
            {"Key": item["Key"]} for item in page.get("Contents", ()) if item["Key"].startswith(where["Prefix"])
        ]:
            remove(prefix.connection, prefix.bucket, left)
    except (ClientError, NoAnswer) as error:
        log.info("what an earlier check left beside %s could not be removed: %s", prefix.uri, cause(error))


def _damage(request: Any, **_: Any) -> None:
    """Change a byte of a request that is about to be sent (botocore's event ``before-send``)."""
    request.body = THREE[: len(ONE)]
