"""What can go wrong, each with a message that names the thing, the rule and the remedy."""

# ruff: noqa: N818 (the names say what happened)

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

EXAMPLES = 20
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html: what says that the bucket has another region.
ELSEWHERE = {
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
    "TemporaryRedirect",
}


class S3SyncError(RuntimeError):
    """The base of every error that this package raises on purpose: each is `Final` or `Again`."""


class Final(S3SyncError):
    """Another try would find the same: somebody has to do something first."""


class Again(S3SyncError):
    """Another try may help: what stands in the way may pass."""


class InvalidTarget(Final):
    """The destination is no ``s3://bucket/prefix/``."""


class InvalidOption(Final):
    """An option has a value that cannot be meant."""


class InvalidObjects(Final):
    """The expected objects, or the local files behind them, cannot be synced as they are."""


class InvalidRecord(Final):
    """The record of earlier uploads cannot be read."""


class RecordNotWritten(Again):
    """The record of uploads cannot be written."""


class DestinationNotReady(Again):
    """The bucket, the credentials or the endpoint are not fit for a sync."""


class CredentialsNotReady(DestinationNotReady):
    """Credentials cannot be had, have ended, or are refused as ended; of a destination or a source."""


class SourceNotReady(Again):
    """A prefix that objects are taken from cannot be listed or read."""


class DeletionRefused(Final):
    """The plan would delete more than it was allowed to."""


class LeaseHeld(Final):
    """Somebody else is changing the destination."""


class LeaseLost(Again):
    """The destination is no longer this sync's to change."""


class NoAnswer(Again):
    """S3 answered, again and again, with something that cannot be read."""


class UploadFailed(Again):
    """Some keys were not uploaded; ``failures`` maps each of them to its cause."""

    def __init__(
        self,
        destination: str,
        failures: Mapping[str, str],
        *,
        stopped: str | None = None,
        before_deletions: bool = False,
    ) -> None:
        self.failures = dict(failures)
        kept = "; nothing was deleted" if before_deletions else ""
        end = f" Stopped early: {stopped}." if stopped else ""
        causes = (f"{key}: {cause}" for key, cause in self.failures.items())
        listed = shortened(causes, len(self.failures))
        super().__init__(
            f"{len(self.failures)} of the uploads to {destination} failed{kept}.{end} What was uploaded"
            f" is kept: run again once the cause is gone.\n{listed}"
        )


class DeleteFailed(Again):
    """S3 refused to delete some keys; ``failures`` maps each of them to its cause."""

    def __init__(self, destination: str, failures: Mapping[str, str]) -> None:
        self.failures = dict(failures)
        causes = (f"{key!a}: {cause}" for key, cause in self.failures.items())
        super().__init__(
            f"{len(self.failures)} keys under {destination} could not be deleted (s3:DeleteObject allowed?)."
            f"\n{shortened(causes, len(self.failures))}"
        )


class VerifyFailed(Again):
    """The destination differs from what is expected."""

    def __init__(
        self,
        destination: str,
        *,
        missing: Sequence[str],
        unexpected: Sequence[str],
        differing: Sequence[str],
    ) -> None:
        self.missing, self.unexpected, self.differing = list(missing), list(unexpected), list(differing)
        self.groups = {"missing": self.missing, "unexpected": self.unexpected, "differing": self.differing}
        counts = ", ".join(f"{len(keys)} {name}" for name, keys in self.groups.items())
        examples = "\n".join(
            f"{name}:\n{shortened((ascii(key) for key in keys), len(keys))}"
            for name, keys in self.groups.items()
            if keys
        )
        super().__init__(f"{destination} is not as expected: {counts}. Run the sync again.\n{examples}")


def shortened(lines: Iterable[str], total: int) -> str:
    """Return the first ``EXAMPLES`` lines, indented, and how many more there are."""
    head = [f"  {line}" for line, _ in zip(lines, range(EXAMPLES), strict=False)]
    return "\n".join([*head, f"  … and {total - len(head)} more"] if total > len(head) else head)


def elsewhere(region: str) -> str:
    """Say that a bucket is in another ``region``, and what to do."""
    return f"the bucket is in {region}: set region_name to that in the extra of the connection"


def cause(error: BaseException) -> str:
    """Return what ``error`` says in one line: for an S3 error the server's code and message."""
    text = str(error)
    code, message, region = (
        re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in ("Code", "Message", "Region")
    )
    if code:
        said = f"{code[1]}: {message[1]}" if message else code[1]
        return f"{said} ({elsewhere(region[1])})" if region and code[1] in ELSEWHERE else said
    # obstore repeats the whole chain of errors, over many lines, after this mark.
    return " ".join(text.partition("Debug source:")[0].split()) or type(error).__name__
