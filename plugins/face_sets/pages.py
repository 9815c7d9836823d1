"""Pages of figures and words: all datasets, one of them, a release, two compared, and what is asked."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.models.dag import DagModel
from airflow.utils.session import create_session
from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import FileResponse, RedirectResponse

from face_sets import bucket
from face_sets.access import Reader, Visit, allows, write_down
from face_sets.places import datasets, places_of
from face_sets.render import page
from face_sets.sealing import opened, sealed
from include.faceset import people
from include.faceset.declared import deciding
from include.faceset.declared.decisions import DecisionError, read
from include.faceset.ledger import Outcome
from include.faceset.release import release
from include.faceset.release.release import ID
from include.faceset.show import ask, releases
from include.faceset.show.releases import Shown
from include.faceset.training.trainers import TRAINERS

router = APIRouter()
TABLES = (release.MANIFEST_FILE, release.LEDGER_FILE, release.CLASSES_FILE)
TEXTS = (release.SUMMARY_FILE, release.SUMMARY_JSON_FILE, release.REPORT_FILE)


@router.get("/")
def all_datasets(request: Request, user: GetUserDep) -> Response:
    """Every dataset whose DAG the user may read."""
    told = [_card(user, dataset) for dataset in datasets() if allows(user, dataset.name, "GET")]
    return page(request, "all.html.j2", title="Face sets", cards=told)


def _card(user: Any, dataset: Any) -> dict[str, Any]:
    places = places_of(dataset)
    run = places[0].run
    found = releases.find(run)
    last = next((one for one in found if one.in_place), None)
    in_bucket = bucket.pointer(run)
    with create_session() as session:
        dag = session.get(DagModel, dataset.name)
        paused, coming = (dag.is_paused, dag.next_dagrun) if dag else (True, None)
    return {
        "dataset": dataset,
        "last": last,
        "places": len(places),
        "held": held(last, in_bucket),
        "waiting": _waiting(last),
        "next": coming if coming and not paused else None,
        "may_edit": allows(user, dataset.name, "PUT"),
    }


def held(last: Shown | None, in_bucket: dict[str, Any]) -> dict[str, str]:
    """In words whether the bucket says that it holds the release in place; `kind` is good, bad or soft."""
    if error := in_bucket.get("error"):
        return {"kind": "soft", "words": f"not known: {error}"}
    there = in_bucket.get("release_id")
    if last is None:
        return {"kind": "soft", "words": f"holds release {there}" if there else "holds no release"}
    if there == last.sealed.release_id:
        return {"kind": "good", "words": "yes, this release"}
    if there is None:
        return {"kind": "bad", "words": "no: it says nothing of a release"}
    return {"kind": "bad", "words": f"no: it says {there}"}


def _waiting(last: Shown | None) -> int:
    """How many files of the release in place wait for a decision."""
    return int(last.facts.get("rejected", {}).get(Outcome.IDENTITY_CONFLICT.value, 0)) if last else 0


@router.get("/{dataset}/")
def one_dataset(request: Request, one: Reader, before: str = "", after: str = "") -> Response:
    """A dataset: its releases over time, what differs between two of them, and its decisions."""
    found = releases.find(one.place.run)
    last = next((shown for shown in found if shown.in_place), None)
    compared = None
    if before and after:
        pair = [find_release(one, release_id) for release_id in (before, after)]
        compared = {"before": pair[0], "after": pair[1], **asdict(releases.differences(one.place.run, *pair))}
    return page(
        request,
        "dataset.html.j2",
        title=one.dataset.name,
        one=one,
        query=query(one),
        releases=found,
        last=last,
        held=held(last, bucket.pointer(one.place.run)),
        waiting=_waiting(last),
        compared=compared,
        reasons=_reasons(found),
    )


def _reasons(found: list[Shown]) -> list[str]:
    return sorted({reason for shown in found for reason in shown.facts.get("rejected", {})})


@router.get("/{dataset}/releases/{release_id}/")
def one_release(request: Request, one: Reader, release_id: str) -> Response:
    """A release: the way of its files, and all that its summary says."""
    shown = find_release(one, release_id)
    names = [name for name in downloads(one) if (shown.folder / name).exists()]
    return page_of(
        one,
        request,
        "release.html.j2",
        f"release {shown.sealed.release_id}",
        shown=shown,
        facts=shown.facts,
        commands=_commands(shown.folder),
        downloads=names,
        held=held(shown, bucket.pointer(one.place.run)),
    )


def downloads(one: Visit) -> list[str]:
    """Names of the files of a release that can be had."""
    return [*TABLES, *(trainer.file_name(one.dataset.name) for trainer in TRAINERS), *TEXTS]


def _commands(folder: Path) -> str:
    """The commands for the training host, as the release's SUMMARY.md has them."""
    try:
        text = (folder / release.SUMMARY_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    return "\n".join(re.findall(r"^```bash\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))


@router.get("/{dataset}/releases/{release_id}/files/{name}")
def download(one: Reader, release_id: str, name: str) -> Response:
    """A file of a release; none while it names somebody who is to be erased."""
    shown = find_release(one, release_id)
    if name not in downloads(one) or not (shown.folder / name).exists():
        raise HTTPException(404, "The release has no such file.")
    if releases.names_erased(one.place.run, shown.folder):
        raise HTTPException(
            409, "This release still names people on the list of people to erase; the next run takes them out of it."
        )
    write_down(one, "download", release=shown.sealed.release_id, file=name)
    return FileResponse(shown.folder / name, filename=f"{one.dataset.name}-{release_id}-{name}")


@router.get("/{dataset}/ask")
def asked(request: Request, one: Reader, q: str = "") -> Response:
    """Where an identity, a file or some bytes went, in every kept release; `q` is sealed."""
    question = opened(q)
    answers = list(ask.ask(one.place.run, question))
    if question:
        write_down(one, "ask", rows=sum(answer.total for answer in answers))
    return page_of(one, request, "ask.html.j2", "ask", q=question, answers=answers)


@router.post("/{dataset}/ask")
def ask_by_form(request: Request, one: Reader, q: Annotated[str, Form()] = "") -> Response:
    """The question of a form, as a link that names nobody."""
    return to(one, request, "ask", q=sealed(q.strip()))


@router.get("/{dataset}/decisions")
def decisions(request: Request, one: Reader) -> Response:
    """The dataset's table of decisions."""
    table, found, error = deciding.table(one.dataset), [], ""
    try:
        found = read(table) if table else []
        deciding.decided(one.dataset)
    except DecisionError as wrong:
        error = str(wrong)
    hidden = _erased(one)
    shown = [decision for decision in found if not decision.identities & hidden]
    return page_of(one, request, "decisions.html.j2", "decisions", table=table, decisions=shown, error=error)


def _erased(one: Visit) -> frozenset[str]:
    try:
        return people.to_erase(one.place.run)
    except DecisionError:
        return people.listed(one.place.run)


def page_of(one: Visit, request: Request, template: str, title: str, **values: Any) -> Response:
    """A page of a dataset."""
    return page(request, template, title=f"{one.dataset.name}: {title}", one=one, query=query(one), **values)


def to(one: Visit, request: Request, path: str, **values: Any) -> Response:
    """The way from a form to the page that shows what it did."""
    base = request.scope.get("root_path", "").rstrip("/")
    return RedirectResponse(f"{base}/{one.dataset.name}/{path}{query(one, **values)}", status_code=303)


def query(one: Visit, **values: Any) -> str:
    """The part of a link behind its path: the place, if it is not the one that is shown unasked, and `values`."""
    place = {"at": one.place.tag} if one.place != one.places[0] else {}
    said = urlencode({**values, **place})
    return f"?{said}" if said else ""


def find_release(one: Visit, release_id: str) -> Shown:
    shown = releases.get(one.place.run, release_id) if re.fullmatch(ID, release_id) else None
    if shown is None:
        raise HTTPException(404, "This release is not kept.")
    return shown
