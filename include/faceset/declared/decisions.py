"""The decisions of people about identities and images: ``<dataset>.decisions``, a table beside the dataset file.

It is CSV with the columns of `COLUMNS`; people write it by hand, and the page appends to it. Lines that begin with
``#`` are comments. The order of the lines does not matter:

=================  ==================================================================================
same_person        the images of `other` count as those of `identity`, in every export
keep_under         of the bytes `sha256`, which lie under several identities, `identity` keeps its own
drop_image         the bytes `sha256` are kept nowhere
drop_identity      nothing is kept of `identity`
keep_image         the bytes `sha256` are kept although a check of pictures advises against it
=================  ==================================================================================
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from include.faceset import names
from include.faceset.errors import Final

COLUMNS = ("decision", "identity", "other", "sha256", "who", "when", "why")
HEADER = ",".join(COLUMNS)


class Kind(StrEnum):
    """What is decided. Stable strings: add, never rename."""

    SAME_PERSON = "same_person"
    KEEP_UNDER = "keep_under"
    DROP_IMAGE = "drop_image"
    DROP_IDENTITY = "drop_identity"
    KEEP_IMAGE = "keep_image"


NEEDS = {
    Kind.SAME_PERSON: ("identity", "other"),
    Kind.KEEP_UNDER: ("identity", "sha256"),
    Kind.DROP_IMAGE: ("sha256",),
    Kind.DROP_IDENTITY: ("identity",),
    Kind.KEEP_IMAGE: ("sha256",),
}


class DecisionError(Final, ValueError):
    """A table of decisions that cannot be used; the message names file, line, rule and remedy."""


@dataclass(frozen=True)
class Decision:
    """One decision; `identity`, `other` and `sha256` (64 hex digits) are empty where its kind does not need them."""

    kind: Kind
    identity: str
    other: str
    sha256: str
    who: str
    when: str
    why: str
    line: int = field(default=0, compare=False)

    @property
    def about(self) -> tuple[str, str, str, str]:
        """What it decides, without who, when and why: two decisions with the same are one."""
        return (self.kind.value, self.identity, self.other, self.sha256)

    @property
    def identities(self) -> set[str]:
        """The identities that it names."""
        return {self.identity, self.other} - {""}


def read(path: Path) -> list[Decision]:
    """The decisions of a table, none if the file is not there.

    Raises:
        DecisionError: the file cannot be read, or a line is wrong.
    """
    return parse(text_of(path), str(path))


def text_of(path: Path) -> str:
    """The text of a table, empty if the file is not there.

    Raises:
        DecisionError: the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise DecisionError(
            f"{path}: the decisions cannot be read ({error.strerror}); let the user that runs Airflow read it"
        ) from error
    except UnicodeDecodeError as error:
        raise DecisionError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from error


def parse(text: str, where: str) -> list[Decision]:
    """The decisions that a table's text holds; `where` is what a message calls it.

    Raises:
        DecisionError: a line is wrong.
    """
    # Comments and empty lines stay in their places, so that the numbers of lines are those of the file.
    lines = ["" if line.lstrip().startswith("#") else line for line in text.splitlines()]
    rows = csv.reader(lines, strict=True)
    found = []
    header: list[str] | None = None
    try:
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if header is None:
                header = [cell.strip() for cell in row]
                if sorted(header) != sorted(COLUMNS):
                    raise DecisionError(f"{where}: line {rows.line_num}: the first line names the columns: {HEADER}")
                continue
            if len(row) != len(header):
                raise DecisionError(
                    f"{where}: line {rows.line_num} has {len(row)} fields, not {len(header)} ({HEADER}); leave a field "
                    'empty where there is nothing to say, and put one with a comma into "quotes"'
                )
            cells = dict(zip(header, map(str.strip, row), strict=True))
            found.append(_decision(cells, rows.line_num, f"{where}: line {rows.line_num}"))
    except csv.Error as error:
        raise DecisionError(f"{where}: line {rows.line_num} is no CSV ({error}); write it as: {HEADER}") from error
    return found


def _decision(cells: dict[str, str], line: int, where: str) -> Decision:
    said = re.sub(r"[\s-]+", "_", cells["decision"].lower())
    if said not in set(Kind):
        raise DecisionError(f"{where}: {cells['decision']!r:.80} is no decision; there are: {', '.join(Kind)}")
    kind = Kind(said)
    for name in ("identity", "other", "sha256"):
        if bool(cells[name]) != (name in NEEDS[kind]):
            verb = "needs" if name in NEEDS[kind] else "takes no"
            raise DecisionError(f"{where}: {kind} {verb} {name}; it takes {' and '.join(NEEDS[kind])}")
    for name in ("identity", "other"):
        if cells[name] and not names.is_safe(cells[name]):
            raise DecisionError(
                f"{where}: {name} is no identity of a merged dataset; write it as its folder in the output is called"
            )
    if cells["sha256"] and not re.fullmatch(r"[0-9a-fA-F]{64}", cells["sha256"]):
        raise DecisionError(f"{where}: sha256 must be 64 hexadecimal digits, as `sha256sum` prints them")
    for name in ("who", "when", "why"):
        if not cells[name]:
            raise DecisionError(f"{where}: {name} is empty; say who decided, when (2026-05-01) and why")
    try:
        datetime.fromisoformat(cells["when"])
    except ValueError:
        raise DecisionError(f"{where}: when: {cells['when']!r:.40} is no date; write it as 2026-05-01") from None
    rest = {name: cells[name] for name in COLUMNS[1:] if name != "sha256"}
    return Decision(kind, sha256=cells["sha256"].lower(), line=line, **rest)


def write(decisions: Iterable[Decision]) -> Iterator[str]:
    """Each decision as a line of the table, without a line break."""
    for one in decisions:
        line = io.StringIO()
        values = asdict(one) | {"decision": one.kind.value}
        csv.writer(line, lineterminator="").writerow([values[name] for name in COLUMNS])
        yield line.getvalue()
