"""Who may see what: a mounted app inherits no login, so each route asks here. What is looked at is written down."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.models.dag import DagModel
from airflow.models.log import Log
from airflow.utils.session import create_session
from fastapi import Depends, HTTPException, Request

from face_sets.places import Place, dataset_of, places_of
from include.faceset.declared.dataset import Dataset


@dataclass(frozen=True)
class Visit:
    """Somebody's visit to a dataset's pages, in one of the places where its releases lie."""

    user: Any
    dataset: Dataset
    place: Place
    places: list[Place]

    @property
    def may_edit(self) -> bool:
        """Whether the user may change the DAG."""
        return allows(self.user, self.dataset.name, "PUT")

    @property
    def may_look(self) -> bool:
        """Whether the user may see faces."""
        shown_to = self.dataset.faces_shown_to
        return shown_to == "readers" or (shown_to == "editors" and self.may_edit)

    @property
    def may_trigger(self) -> bool:
        """Whether the user may start a run."""
        return allows(self.user, self.dataset.name, "POST")


def allows(user: Any, dag_id: str, method: Any) -> bool:
    """Whether a user may read (GET) or change (PUT) a DAG, or trigger it (POST)."""
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    manager = get_auth_manager()
    if method == "POST":
        return manager.is_authorized_dag(method="POST", access_entity=DagAccessEntity.RUN, details=details, user=user)
    return manager.is_authorized_dag(method=method, details=details, user=user)


def visit(dataset: str, user: GetUserDep, at: str = "") -> Visit:
    """Let a user in who may read the DAG; whoever may not learns no more than that there is nothing."""
    found = dataset_of(dataset)
    if found is None or not allows(user, dataset, "GET"):
        raise HTTPException(404, "There is no such dataset, or you may not read its DAG.")
    places = places_of(found)
    place = next((one for one in places if one.tag == at), places[0])
    return Visit(user, found, place, places)


Reader = Annotated[Visit, Depends(visit)]


def looker(one: Reader) -> Visit:
    """Let a user in who may see faces."""
    if not one.may_look:
        raise HTTPException(403, "You may not see faces of this dataset: that takes the right to change its DAG.")
    return one


def editor(one: Reader, request: Request) -> Visit:
    """Let a user in who may change the DAG, by a form of these pages alone."""
    if not one.may_edit:
        raise HTTPException(403, "You may not decide here: that takes the right to change the DAG.")
    _same_site(request)
    return one


def starter(one: Reader, request: Request) -> Visit:
    """Let a user in who may start a run, by a form of these pages alone."""
    if not one.may_trigger:
        raise HTTPException(403, "You may not start a run of this DAG.")
    _same_site(request)
    return one


Looker = Annotated[Visit, Depends(looker)]
Editor = Annotated[Visit, Depends(editor)]
Starter = Annotated[Visit, Depends(starter)]


def _same_site(request: Request) -> None:
    """Refuse a form that another site has sent in a user's name: each browser says where it comes from."""
    if request.method == "GET" or "authorization" in request.headers:  # no browser adds that by itself
        return
    origin, host = request.headers.get("origin"), request.headers.get("host")
    said = request.headers.get("sec-fetch-site")
    if said not in {"same-origin", "none"} and (origin is None or origin.partition("://")[2] != host):
        raise HTTPException(403, "This form was sent from another site; open the page in Airflow and send it there.")


def write_down(one: Visit, event: str, **what: Any) -> None:
    """Write into Airflow's audit log what somebody has looked at or decided."""
    name = one.user.get_name()
    with create_session() as session:
        session.add(
            Log(
                event=f"face_sets_{event}",
                task_instance=None,
                owner=name,
                owner_display_name=name,
                extra=json.dumps(what),
                dag_id=one.dataset.name,
            )
        )
