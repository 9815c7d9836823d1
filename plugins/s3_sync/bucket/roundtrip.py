"""That both clients mean the same place: what one of them writes the other reads, lists, copies and deletes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError

from s3_sync.errors import DestinationNotReady

if TYPE_CHECKING:
    from collections.abc import Callable

    from obstore.store import S3Store

    from s3_sync.bucket.probe import Probe, ProbeObject


def check_one_place(probe: Probe, store: S3Store) -> None:
    """Let boto3 and ``store`` each PUT, GET, LIST, COPY and DELETE objects of a probe, and the other one look.

    Where a server takes no copies, or no deletions in a batch, that is none of this check's business.

    Raises DestinationNotReady where one of them does not see what the other did; ClientError and obstore's errors where
    it may not.
    """
    rust = _Rust(probe, store)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(_boto3_then_store, probe, rust), pool.submit(_store_then_boto3, probe, rust)]:
            done.result()


def _boto3_then_store(probe: Probe, rust: _Rust) -> None:
    content = uuid4().bytes
    with probe.objects("/one", "/copy") as (one, copied):
        one.put(content)
        _expect(probe, "PUT", rust.content(one), content)
        _expect(probe, "LIST", rust.listed(one), [one.key])
        if rust.copy(one, copied):
            _expect(probe, "COPY", copied.content(), content)
            if rust.delete(copied):
                _expect(probe, "DELETE", copied.content(), None)


def _store_then_boto3(probe: Probe, rust: _Rust) -> None:
    content = uuid4().bytes
    with probe.objects("/one", "/copy") as (one, copied):
        rust.put(one, content)
        _expect(probe, "PUT", one.content(), content)
        _expect(probe, "LIST", probe.listed(one.key), [one.key])
        if copied.copy(one) is not None:
            _expect(probe, "COPY", rust.content(copied), content)
            copied.delete()
            _expect(probe, "DELETE", rust.content(copied), None)


def _expect(probe: Probe, verb: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise DestinationNotReady(
            f"bucket {probe.prefix.bucket}: after a {verb} by one of the two clients that a sync uses, the other sees"
            f" something else at {probe.prefix.endpoint}, as if they talked to two places. Look for a proxy, a"
            " cache or a redirect before the endpoint"
        )


@dataclass(frozen=True)
class _Rust:
    """What a probe's objects are to obstore."""

    probe: Probe
    store: S3Store

    def put(self, one: ProbeObject, content: bytes) -> None:
        one.written = True
        one.versioned |= self._ask(lambda: obstore.put(self.store, one.key, content))["version"] is not None

    def content(self, one: ProbeObject) -> bytes | None:
        try:
            content: bytes = self._ask(lambda: bytes(obstore.get(self.store, one.key).bytes()))
        except FileNotFoundError:
            return None
        return content

    def listed(self, one: ProbeObject) -> list[str]:
        """Return the keys beside it."""
        folder = one.key.rpartition("/")[0]
        keys: list[str] = self._ask(
            lambda: [item["path"] for page in obstore.list(self.store, folder) for item in page]
        )
        return keys

    def copy(self, one: ProbeObject, to: ProbeObject) -> bool:
        to.written, to.versioned = True, one.versioned
        return self._is_taken(lambda: obstore.copy(self.store, one.key, to.key))

    def delete(self, one: ProbeObject) -> bool:
        return self._is_taken(lambda: obstore.delete(self.store, one.key))  # by a request for a batch

    def _is_taken(self, call: Callable[[], Any]) -> bool:
        try:
            self._ask(call)
        except PermissionDeniedError:
            raise
        except (BaseError, NotImplementedError):
            return False
        return True

    def _ask(self, call: Callable[[], Any]) -> Any:
        return self.probe.send(lambda **_: call())
