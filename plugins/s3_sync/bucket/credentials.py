"""Whose requests these are: a session's credentials with their true end, one object for boto3 and obstore.

Left to themselves, botocore asks for new ones at every request from ten minutes before the end, so at every one where
they live for a minute; and what obstore has for boto3 says "good for half an hour" whatever botocore knows. Here they
are renewed early, seldom, and once more where S3 calls them expired; what cannot be renewed is said in words.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.credentials import ReadOnlyCredentials, RefreshableCredentials

from s3_sync.bucket.remedies import BAD_REQUEST, REFUSED, remedy, told
from s3_sync.errors import CredentialsNotReady

if TYPE_CHECKING:
    from obstore.store import S3Credential

log = logging.getLogger(__name__)

# As botocore does with those that live long.
EARLY_S = 15 * 60.0
# Of many requests that were refused at the same moment the first renews for all.
AT_ONCE_S = 1.0
# What fails is not tried again sooner: many threads would each wait for it, one after the other.
FAILED_FOR_S = 5.0
RENEWED = "s3_sync.renewed"


class S3Credentials:
    """What a boto3 session found, ``found``, for botocore (`get_frozen_credentials`) and for obstore (a call).

    They are renewed when a quarter is left of the time for which they were good when last asked for, at the most
    ``EARLY_S``: so a server that hands out the same ones until they end is asked a few times, and not at every request.
    A renewal that fails is no hindrance before they have ended. ``owner`` says in words whose they are.

    Raises CredentialsNotReady where credentials are needed and there are none, or they have ended.
    """

    # obstore keeps what has longer than this to live, so nothing that ends: it asks here, at most ten times a second.
    refresh_threshold = timedelta(days=36500)

    def __init__(self, found: Any, owner: str, *, profile: str | None = None) -> None:
        self.method: str = found.method
        self._found, self._owner, self._profile = found, owner, profile
        self._renewing = threading.Lock()
        self._good_for_s = max(self._left_s(), 0.0)
        self._renewed_at = self._failed_at = -math.inf
        self._failure = ""

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Return what to sign a request with."""
        if self._is_due() and self._renewing.acquire(blocking=self._left_s() <= 0):
            try:
                if self._is_due():
                    self._renew_if_possible()
            finally:
                self._renewing.release()
        return self._current()

    def get_deferred_property(self, name: str) -> Any:
        """Return a function that gives ``name``, as botocore asks for the account."""
        return lambda: getattr(self.get_frozen_credentials(), name, None)

    def __call__(self) -> S3Credential:
        """Return the same as obstore takes it, with when they end."""
        frozen = self.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": self.expires_at,
        }

    @property
    def expires_at(self) -> datetime | None:
        """When they end; None if they do not, or nobody knows."""
        end: datetime | None = getattr(self._found, "_expiry_time", None)
        return end and end.astimezone(UTC)

    def renew(self) -> None:
        """Get new ones in the place of those that S3 has just refused. Raises CredentialsNotReady."""
        if not isinstance(self._found, RefreshableCredentials):
            raise self.not_ready("are refused by S3, because their session has ended")
        if not self._renew_refused():
            raise self.not_ready("are refused by S3, and renewing them gives the same ones again")

    def _renew_refused(self) -> bool:
        """Renew what can be renewed; return whether they are others than before, or somebody has just done it."""
        with self._renewing:
            if time.monotonic() - self._renewed_at < AT_ONCE_S:
                return True
            before = self._current()
            # botocore would hand out again what it takes for good; S3 does not.
            cache = getattr(getattr(self._found._refresh_using, "__self__", None), "_cache", None)  # noqa: SLF001
            if isinstance(cache, dict):
                cache.clear()
            self._renew("are refused by S3, and cannot be renewed")
            if before == self._current():
                return False
            self._renewed_at = time.monotonic()
            return True

    def watch(self, client: Any) -> None:
        """Let a boto3 client send what S3 refused because of its token once more, with renewed credentials."""
        client.meta.events.register("needs-retry.s3", self._once_more)

    def not_ready(self, what: str, error: BaseException | None = None) -> CredentialsNotReady:
        """Return the error that says ``what`` is wrong with them, why, and what to do."""
        why = f" ({told(error)})" if error else ""
        return CredentialsNotReady(
            f"the credentials of {self._owner} {what}{why}: {remedy(self.method, error, self._profile)}"
        )

    def _current(self) -> ReadOnlyCredentials:
        if isinstance(self._found, RefreshableCredentials):
            return self._found._frozen_credentials  # noqa: SLF001 the public way would renew at every request
        return self._found.get_frozen_credentials()

    def _left_s(self) -> float:
        if isinstance(self._found, RefreshableCredentials) and self._found._frozen_credentials is None:  # noqa: SLF001
            return 0.0
        end = self.expires_at
        return (end - datetime.now(UTC)).total_seconds() if end else math.inf

    def _is_due(self) -> bool:
        return self._left_s() <= min(EARLY_S, self._good_for_s / 4)

    def _renew_if_possible(self) -> None:
        left_s = self._left_s()
        try:
            self._renew("have ended, and cannot be renewed" if self._current() else "cannot be had")
        except CredentialsNotReady as failure:
            if left_s <= 0:
                raise
            self._good_for_s = left_s
            log.warning("%s. They are good for another %.0f s", failure, left_s)

    def _renew(self, what: str) -> None:
        """Renew what can be renewed; the caller holds the lock."""
        if time.monotonic() - self._failed_at < FAILED_FOR_S:
            raise CredentialsNotReady(self._failure)
        found = self._found
        try:
            # botocore has no public way to renew before it is time, and logs the traceback of what fails, with what a
            # service answered: that may hold half a session.
            with found._refresh_lock:  # noqa: SLF001
                found._set_from_data(found._refresh_using())  # noqa: SLF001
                found._publish_refresh()  # noqa: SLF001
        except Exception as error:  # noqa: BLE001 whatever a service of sessions, or what asks it, fails with
            raise self._failed(self.not_ready(what, error)) from None
        if (left_s := self._left_s()) <= 0:
            raise self._failed(self.not_ready("are renewed, but the new ones have ended already"))
        self._good_for_s = left_s

    def _failed(self, failure: CredentialsNotReady) -> CredentialsNotReady:
        self._failure, self._failed_at = str(failure), time.monotonic()
        return failure

    def _once_more(self, response: Any, request_dict: dict[str, Any], operation: Any, **_: Any) -> int | None:
        """Answer botocore's question whether to send a request again: 0 for "now"."""
        if response is None:
            return None
        said, metadata = response[1].get("Error", {}), response[1].get("ResponseMetadata", {})
        context = request_dict["context"]
        if said.get("Code") in REFUSED:
            if context.get(RENEWED):
                raise self.not_ready(f"are refused by S3, renewed as they are: {said.get('Code')}")
            self.renew()
        # The answer to a HEAD has no body that would tell why.
        elif not (
            metadata.get("HTTPStatusCode") == BAD_REQUEST
            and operation.name.startswith("Head")
            and isinstance(self._found, RefreshableCredentials)
            and not context.get(RENEWED)
            and self._renew_refused()
        ):
            return None
        context[RENEWED] = True
        return 0
