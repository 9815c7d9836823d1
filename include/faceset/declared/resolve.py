"""What the decisions of people come to, in whatever order they were made."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from include.faceset.declared.decisions import Decision, DecisionError, Kind


@dataclass(frozen=True)
class Decided:
    """What the decisions of a dataset come to.

    `merged` has the identity that another one counts as, `under` the identity that keeps the bytes of a SHA-256.
    """

    merged: dict[str, str] = field(default_factory=dict)
    under: dict[bytes, str] = field(default_factory=dict)
    dropped: frozenset[bytes] = frozenset()
    dropped_identities: frozenset[str] = frozenset()
    kept: frozenset[bytes] = frozenset()

    def drops(self, identity: str, sha256: bytes | None) -> bool:
        """Whether an image is not to be kept under an identity."""
        return sha256 in self.dropped or self.under.get(sha256 or b"", identity) != identity

    @property
    def digest(self) -> str:
        """What tells one set of decisions from another, whoever made them in whatever order; empty for none."""
        if self == Decided():
            return ""
        said = {
            "merged": sorted(self.merged.items()),
            "under": sorted((sha256.hex(), identity) for sha256, identity in self.under.items()),
            "dropped": sorted(sha256.hex() for sha256 in self.dropped),
            "dropped_identities": sorted(self.dropped_identities),
            "kept": sorted(sha256.hex() for sha256 in self.kept),
        }
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def resolve(decisions: Iterable[Decision], where: str) -> Decided:
    """What decisions come to, in whatever order they stand.

    Raises:
        DecisionError: two of them contradict one another.
    """
    by_kind: dict[Kind, list[Decision]] = {kind: [] for kind in Kind}
    for one in decisions:
        by_kind[one.kind].append(one)
    merged = _merged(by_kind[Kind.SAME_PERSON], where)
    under: dict[bytes, Decision] = {}
    for one in by_kind[Kind.KEEP_UNDER]:
        before = under.setdefault(bytes.fromhex(one.sha256), one)
        if merged.get(before.identity, before.identity) != merged.get(one.identity, one.identity):
            raise _contradiction(where, before, one, "the same bytes are to be kept under two identities")
    dropped = {bytes.fromhex(one.sha256): one for one in by_kind[Kind.DROP_IMAGE]}
    kept = {bytes.fromhex(one.sha256): one for one in by_kind[Kind.KEEP_IMAGE]}
    for sha256, one in dropped.items():
        if other := under.get(sha256) or kept.get(sha256):
            raise _contradiction(where, one, other, "the same bytes are to be dropped and to be kept")
    gone = {one.identity: one for one in by_kind[Kind.DROP_IDENTITY]}
    for one in (*by_kind[Kind.SAME_PERSON], *by_kind[Kind.KEEP_UNDER]):
        for identity in one.identities & gone.keys():
            raise _contradiction(where, gone[identity], one, "the identity is to be dropped, and to keep images")
    return Decided(
        merged=merged,
        under={sha256: merged.get(one.identity, one.identity) for sha256, one in under.items()},
        dropped=frozenset(dropped),
        dropped_identities=frozenset(gone),
        kept=frozenset(kept),
    )


def _merged(decisions: list[Decision], where: str) -> dict[str, str]:
    """The identity that each other one counts as in the end."""
    said: dict[str, Decision] = {}
    for one in decisions:
        before = said.setdefault(one.other, one)
        if before.identity != one.identity:
            raise _contradiction(where, before, one, "one identity is to count as two others; join those two first")
    merged = {}
    for name, first in said.items():
        met, target = {name}, first.identity
        while target not in met and target in said:
            met.add(target)
            target = said[target].identity
        if target in met:
            raise DecisionError(
                f"{where}: line {first.line}: the decisions say in a circle who is the same person, so none of them "
                "gives the others its name; remove one of them"
            )
        merged[name] = target
    return merged


def _contradiction(where: str, one: Decision, other: Decision, why: str) -> DecisionError:
    lines = sorted((one.line, other.line))
    return DecisionError(
        f"{where}: lines {lines[0]} and {lines[1]} ({one.kind}, {other.kind}) contradict one another: {why}; remove "
        "one of them"
    )
