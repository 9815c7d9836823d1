"""Faces: contact sheets of a reason, of an identity, of a conflict; drawn when somebody looks, and written down."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import pyarrow as pa
from fastapi import APIRouter, Form, Query, Request, Response
from pydantic import BaseModel, Field

from face_sets import bucket
from face_sets.access import Looker, Visit, write_down
from face_sets.pages import find_release, page_of, query, to
from face_sets.sealing import opened, sealed
from include.faceset.ledger import Outcome
from include.faceset.show import rows, sheet
from include.faceset.show.releases import Shown

router = APIRouter()
DISPUTES = 10
"""Conflicts of a page."""


FIRST = {
    "darkest": ("brightness", False),
    "brightest": ("brightness", True),
    "flattest": ("contrast", False),
    "most blurred": ("sharpness", False),
}
"""Orders of the kept images: the measure, and whether the highest comes first."""


class Wanted(BaseModel):
    """Which faces: of some bytes, first by a measure, of an identity, or of an outcome; from which one on."""

    outcome: str = Outcome.KEPT.value
    who: str = ""
    which: str = ""
    first: str = ""
    start: int = Field(0, ge=0)

    @property
    def identity(self) -> str:
        """The identity that is sealed in `who`."""
        return opened(self.who)

    @property
    def sha256(self) -> str:
        """The SHA-256, in hexadecimal digits, that is sealed in `which`."""
        return opened(self.which)


class Asked(BaseModel):
    """Which faces a form asks for."""

    outcome: str = Outcome.KEPT.value
    identity: str = ""
    first: str = ""


WantedByLink = Annotated[Wanted, Query()]


@router.get("/{dataset}/releases/{release_id}/look")
def look(request: Request, one: Looker, release_id: str, wanted: WantedByLink) -> Response:
    """A page of faces: of an outcome, or of an identity."""
    shown = find_release(one, release_id)
    found, total = _rows(one, shown, wanted)
    return page_of(
        one,
        request,
        "look.html.j2",
        "look",
        shown=shown,
        outcome=wanted.outcome,
        identity=wanted.identity,
        first=wanted.first,
        firsts=list(FIRST),
        rows=found.to_pylist(),
        start=wanted.start,
        total=total,
        step=sheet.IMAGES,
        who=sealed(wanted.identity),
        asked=query(one, **wanted.model_dump()),
        at=query(one).lstrip("?"),
        outcomes=["kept", *shown.facts.get("rejected", {})],
    )


@router.post("/{dataset}/releases/{release_id}/look")
def look_for(request: Request, one: Looker, release_id: str, wanted: Annotated[Asked, Form()]) -> Response:
    """What a form asks for, as a link that names nobody."""
    asked = {"outcome": wanted.outcome, "who": sealed(wanted.identity.strip()), "first": wanted.first}
    return to(one, request, f"releases/{release_id}/look", **asked)


@router.get("/{dataset}/releases/{release_id}/sheet.webp")
def drawn(one: Looker, release_id: str, wanted: WantedByLink) -> Response:
    """The sheet itself, of at most a hundred faces."""
    shown = find_release(one, release_id)
    found = _rows(one, shown, wanted)[0].to_pylist()
    write_down(one, "look", release=shown.sealed.release_id, faces=len(found), outcome=wanted.outcome)
    return _sheet(one, found)


def _sheet(one: Visit, found: Sequence[dict[str, Any]]) -> Response:
    run = one.place.run
    images = sheet.contents(run, found, partial(bucket.fetch, run))
    return Response(sheet.draw(images, run.dataset.image_size), media_type="image/webp")


def _rows(one: Visit, shown: Shown, wanted: Wanted) -> tuple[pa.Table, int]:
    """The rows of a page, and how many there are in all."""
    ledger = rows.ledger(one.place.run, shown.folder)
    if wanted.sha256:
        return ledger.where("sha256", bytes.fromhex(wanted.sha256)).slice(0, 1), 1
    if wanted.first in FIRST:
        measure, highest = FIRST[wanted.first]
        return ledger.extremes(measure, wanted.start, sheet.IMAGES, highest=highest)
    if wanted.identity:
        found = ledger.of_identities([wanted.identity])
        return found.slice(wanted.start, sheet.IMAGES), found.num_rows
    return ledger.page(wanted.outcome, wanted.start, sheet.IMAGES)


@router.get("/{dataset}/releases/{release_id}/conflicts")
def conflicts(request: Request, one: Looker, release_id: str, start: int = 0) -> Response:
    """Images that lie under two identities: both beside one another, and what can be decided."""
    shown, start = find_release(one, release_id), max(0, start)
    ledger = rows.ledger(one.place.run, shown.folder)
    disputed = ledger.conflicts()
    near, near_total = ledger.near_copies(DISPUTES) if start == 0 else ([], 0)
    told = [
        {"sha256": sha256.hex(), "files": files, "identities": sorted({str(row["identity"]) for row in files})}
        for sha256, files in rows.disputes(disputed, start, DISPUTES)
    ]
    return page_of(
        one,
        request,
        "conflicts.html.j2",
        "conflicts",
        at=query(one).lstrip("?"),
        shown=shown,
        disputes=told,
        start=start,
        step=DISPUTES,
        total=len(disputed["sha256"].unique()),
        near=[group.to_pylist() for group in near],
        near_total=near_total,
    )
