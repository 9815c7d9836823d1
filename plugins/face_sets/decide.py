"""What people decide on the pages: written into the dataset's table, and into Airflow's audit log; and roll-backs."""

from datetime import UTC, datetime
from typing import Annotated, Any

import httpx
from airflow.api_fastapi.app import cached_app
from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
from fastapi import APIRouter, Form, HTTPException, Request, Response
from pydantic import BaseModel

from face_sets.access import Editor, Starter, Visit, write_down
from face_sets.pages import find_release, page_of, to
from include.faceset.declared import deciding
from include.faceset.declared.decisions import HEADER, Decision, Kind, parse, write

router = APIRouter()
_SAYS_WHERE = ("local_source", "output", "destination")


class Said(BaseModel):
    """What a form says: a decision, without who, when and, if it is to be undone, why."""

    decision: Kind
    identity: str = ""
    other: str = ""
    sha256: str = ""
    why: str = ""


SaidByForm = Annotated[Said, Form()]


@router.post("/{dataset}/decide")
def decide(request: Request, one: Editor, said: SaidByForm) -> Response:
    """Add a decision; the next run goes by it."""
    about = (said.identity.strip(), said.other.strip(), said.sha256.strip().lower())
    made = _checked(Decision(said.decision, *about, *_signature(one), " ".join(said.why.split()) or "looked at"))
    deciding.add(_table(one), made)
    write_down(one, "decide", decision=made.kind.value)
    return to(one, request, "decisions")


@router.post("/{dataset}/undo")
def undo(request: Request, one: Editor, said: SaidByForm) -> Response:
    """Take a decision back."""
    about = (said.decision.value, said.identity, said.other, said.sha256)
    if not deciding.remove(_table(one), lambda made: made.about == about):
        raise HTTPException(404, "This decision is not in the table any more.")
    write_down(one, "undo", decision=said.decision.value)
    return to(one, request, "decisions")


def _checked(made: Decision) -> Decision:
    """The decision as its line would be read again, so that the table stays one that can be read."""
    return parse("\n".join([HEADER, *write([made])]), "the form")[0]


def _signature(one: Visit) -> tuple[str, str]:
    return " ".join(one.user.get_name().split()), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")


def _table(one: Visit) -> Any:
    table = deciding.table(one.dataset)
    if table is None:
        raise HTTPException(409, "This dataset has no file, and so no place for decisions.")
    return table


@router.get("/{dataset}/releases/{release_id}/roll-back")
def ask_roll_back(request: Request, one: Starter, release_id: str) -> Response:
    """The form that starts the run, with the release filled in."""
    shown = find_release(one, release_id)
    return page_of(
        one, request, "roll_back.html.j2", "roll back", shown=shown, conf=_conf(one, shown.sealed.release_id), run_id=""
    )


@router.post("/{dataset}/releases/{release_id}/roll-back")
async def roll_back(request: Request, one: Starter, release_id: str) -> Response:
    """Start the run, through Airflow's own API and in the user's name."""
    shown = find_release(one, release_id)
    conf = _conf(one, shown.sealed.release_id)
    token = request.cookies.get(COOKIE_NAME_JWT_TOKEN)
    headers = {"Authorization": request.headers.get("authorization") or f"Bearer {token}"}
    transport = httpx.ASGITransport(app=cached_app())
    async with httpx.AsyncClient(transport=transport, base_url=str(request.base_url)) as client:
        url = f"/api/v2/dags/{one.dataset.name}/dagRuns"
        answer = await client.post(url, json={"conf": conf, "logical_date": None}, headers=headers)
    if not answer.is_success:
        raise HTTPException(answer.status_code, f"Airflow has not started the run: {answer.text:.500}")
    write_down(one, "roll_back", release=shown.sealed.release_id)
    run_id = answer.json()["dag_run_id"]
    return page_of(one, request, "roll_back.html.j2", "roll back", shown=shown, conf=conf, run_id=run_id)


def _conf(one: Visit, release_id: str) -> dict[str, Any]:
    """The params of the run: the release, and where this place differs from what the dataset file says."""
    said = one.place.run.params
    own = {name: getattr(said, name) for name in _SAYS_WHERE if getattr(said, name) != getattr(one.dataset, name)}
    return {**own, "release": release_id}
