"""Pairs of images of people who are held out: every other one of the same person, the rest of two."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, islice
from math import comb
from typing import NamedTuple

from include.faceset.errors import Final

MOST_OF_ONE = 100
"""Pairs of one person to choose among: of somebody with very many images not all are made."""


class HoldoutError(Final):
    """Too little is held out to draw the pairs from."""


class Pair(NamedTuple):
    """Two images by their SHA-256, and whether they are of the same person."""

    one: bytes
    other: bytes
    same: bool


def check(counts: Sequence[int], wanted: int) -> None:
    """Check that the pairs can be drawn from people who have so many images each.

    Raises:
        HoldoutError: with the numbers and the remedy.
    """
    of_one = sum(min(comb(count, 2), MOST_OF_ONE) for count in counts)
    total = sum(counts)
    of_two = (total * total - sum(count * count for count in counts)) // 2
    most = 2 * min(of_one, of_two)
    if most < wanted:
        raise HoldoutError(
            f"holdout: {len(counts):,} identities with {total:,} images are held out, of which {most:,} pairs can be "
            f"drawn, half of one person and half of two, and {wanted:,} are asked for. Raise holdout.fraction, or "
            "lower holdout.pairs, in the dataset file"
        )


def draw(images: Mapping[str, Sequence[bytes]], wanted: int) -> list[Pair]:
    """The pairs, the same for the same images; one of the same person first, then one of two, and so on.

    Args:
        images: SHA-256 of the images of each identity.
        wanted: how many pairs, an even number.

    Raises:
        HoldoutError: as of `check`.
    """
    check([len(hashes) for hashes in images.values()], wanted)
    ordered = {
        name: sorted(hashes, key=_drawn)
        for name, hashes in sorted(images.items(), key=lambda one: _drawn(one[0].encode()))
    }
    same = islice(_of_one(ordered), wanted // 2)
    different = islice(_of_two(ordered), wanted // 2)
    return [pair for both in zip(same, different, strict=True) for pair in both]


def _drawn(of: bytes) -> bytes:
    return hashlib.blake2b(of, digest_size=8, person=b"pairs").digest()


def _of_one(images: Mapping[str, Sequence[bytes]]) -> Iterator[Pair]:
    """Pairs of one person: a first one of everybody, then a second one, and so on."""
    left = [islice(combinations(hashes, 2), MOST_OF_ONE) for hashes in images.values()]
    while left:
        left_over = []
        for pairs in left:
            if (pair := next(pairs, None)) is not None:
                yield Pair(*pair, same=True)
                left_over.append(pairs)
        left = left_over


def _of_two(images: Mapping[str, Sequence[bytes]]) -> Iterator[Pair]:
    """Pairs of two people: everybody with the next one, then with the next but one, and so on; first with one image."""
    people = list(images.values())
    most = max(map(len, people))
    for turn in range(most * most):
        for apart in range(1, len(people) // 2 + 1):
            for at, hashes in enumerate(people):
                if 2 * apart == len(people) and at >= apart:
                    break
                others = people[(at + apart) % len(people)]
                one, other = divmod(turn, most)
                if one < len(hashes) and other < len(others):
                    yield Pair(hashes[one], others[other], same=False)
