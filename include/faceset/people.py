"""The list of people to erase, and which rows name one of them.

The list has one identity a line, as the merged dataset calls it (of an export with `namespace: own`:
``<export>__<identity>``). Lines that begin with ``#`` are comments; ``\\#`` begins a name with a number sign.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset import names
from include.faceset.declared import deciding
from include.faceset.declared.resolve import Decided
from include.faceset.errors import Final
from include.faceset.ground import tables
from include.faceset.ledger import Outcome
from include.faceset.run.run import Run

People = frozenset[str]
"""Identities to erase."""

_LEFT = frozenset({"export", "partition"})
"""What a blank row keeps: the ledger balances by export."""
_NAMES_A_PATTERN = 100
_NO_LETTER = r"[^\p{L}\p{N}]"


class SuppressedError(Final, ValueError):
    """A list that cannot be used; the message names file, line, rule and remedy."""


@dataclass(frozen=True)
class Line:
    """A line of a list, by its number in the file, the first being 1; `name` is the identity that it says."""

    number: int
    name: str


def to_erase(run: Run) -> People:
    """Everybody whom a run is to erase: of all its lists, and whoever was decided to be the same person.

    Raises:
        SuppressedError: a list is wrong, or one that is named is not there.
        DecisionError: the table of decisions is wrong.
    """
    named = listed(run)
    return named | same_people(deciding.decided(run.dataset), named) if named else named


def listed(run: Run) -> People:
    """Everybody whom the lists of a run name."""
    return frozenset(line.name for path in lists(run) for line in read_lines(path))


def same_people(decided: Decided, named: People) -> People:
    """Those named, with all who were decided to be the same person as one of them."""
    merged = decided.merged
    persons = {merged.get(name, name) for name in named}
    return named | {name for pair in merged.items() if pair[1] in persons for name in pair}


def lists(run: Run) -> list[Path]:
    """The lists of a run: that beside the dataset file if it is there, the one that the file names, the param's."""
    named = {Path(path) for path in (run.dataset.suppressed, run.params.suppressed) if path}
    beside = run.dataset.suppressed_beside
    if beside is not None and beside.exists():
        named.add(beside)
    return sorted(named)


def read_lines(path: Path) -> list[Line]:
    """The lines of one list that name somebody.

    Raises:
        SuppressedError: the file cannot be read, or a line is no identity.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SuppressedError(
            f"{path}: the list of people to erase cannot be read ({error.strerror}); correct its path, or make it"
        ) from error
    except UnicodeDecodeError as error:
        raise SuppressedError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    return list(_lines(path, text))


def _lines(path: Path, text: str) -> Iterator[Line]:
    for number, line in enumerate(text.split("\n"), start=1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        name = name.removeprefix("\\") if name.startswith("\\#") else name
        if not names.is_safe(name):
            raise SuppressedError(
                f"{path}: line {number} is no identity of a merged dataset: one a line, without slash, backslash, "
                "leading dot or control character, in Unicode form NFC, at most 255 bytes; write it as its folder in "
                "the output is called"
            )
        yield Line(number, name)


def of_identities(listed: People, identities: pa.ChunkedArray) -> pa.Array:
    """Whether each identity is listed."""
    return pc.is_in(identities, value_set=pa.array(sorted(listed), pa.string()))


def of_keys(listed: People, keys: pa.ChunkedArray) -> pa.Array:
    """Whether each key ``<identity>/<file>`` is of somebody listed."""
    return of_identities(listed, pc.replace_substring_regex(keys, "(?s)/.*", ""))


def separate(listed: People, rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Rows that name somebody listed, and the others.

    Args:
        listed: whom to look for.
        rows: with at least identity, export and path. A row without identity, of a file that was skipped for its
            name, names a person if that person's name stands as a word in its path.
    """
    if not listed:
        return rows.slice(0, 0), rows
    named = of_identities(listed, rows["identity"])
    if rows["identity"].null_count:
        named = pc.or_(named, _in_path(listed, rows))
    return rows.filter(named), rows.filter(pc.invert(named))


def named_by(listed: People, rows: pa.Table) -> People:
    """Of those listed, whom rows name, as `split` understands it."""
    of_people = separate(listed, rows)[0]
    if not of_people.num_rows:
        return frozenset()
    found = set(pc.unique(of_people["identity"].drop_null()).to_pylist())
    without = of_people.filter(pc.is_null(of_people["identity"]))
    for name in listed - found if without.num_rows else ():
        if pc.any(_in_path(frozenset({name}), without)).as_py():
            found.add(name)
    return frozenset(found)


def blank(rows: pa.Table) -> pa.Table:
    """The same number of rows, `suppressed`, with nothing but export and part."""
    suppressed = pa.repeat(pa.scalar(Outcome.SUPPRESSED.value), rows.num_rows)
    return tables.filled({name: rows[name] for name in _LEFT} | {"outcome": suppressed}, rows.schema, rows.num_rows)


def blanked(listed: People, rows: pa.Table) -> pa.Table:
    """All rows, blank where they name somebody listed."""
    of_people, others = separate(listed, rows)
    return pa.concat_tables([others, blank(of_people)]) if of_people.num_rows else rows


def _in_path(listed: People, rows: pa.Table) -> pa.Array:
    """Whether a row has no identity, and somebody's name in its path."""
    found = pa.repeat(pa.scalar(False), rows.num_rows)
    without = pc.is_null(rows["identity"])
    path = pc.utf8_normalize(rows["path"], "NFC")
    for export in pc.unique(rows["export"].filter(without)).to_pylist():
        of_export = pc.and_(without, pc.equal(rows["export"], export))
        for pattern in _patterns(listed, export):
            found = pc.or_(found, pc.and_(of_export, pc.match_substring_regex(path, pattern)))
    return pc.fill_null(found, fill_value=False)


def _patterns(listed: People, export: str) -> Iterator[str]:
    """Regular expressions for the names as words, as an export with a namespace of its own has them too."""
    own = f"{export}__"
    words = sorted(listed | {name.removeprefix(own) for name in listed})
    for start in range(0, len(words), _NAMES_A_PATTERN):
        some = "|".join(map(re.escape, words[start : start + _NAMES_A_PATTERN]))
        yield f"(^|{_NO_LETTER})({some})({_NO_LETTER}|$)"
