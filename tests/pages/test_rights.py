"""Another DAG's rights are no rights here; and an app that cannot be made says so and leaves the server alone."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from face_sets import access, app, loading, places

from include.faceset.declared.dataset import Dataset
from tests.unit.faceset.pipeline import SMALL

DATASETS = ("mine", "theirs")


class Manager:
    """An auth manager that lets a user do everything with one DAG, and nothing with any other."""

    def is_authorized_dag(self, *, details: Any, **_: Any) -> bool:
        return details.id == "mine"


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in DATASETS:
        text = f"""
local_source: {tmp_path}/exports
output: {tmp_path}/{name}
destination: s3://bucket/{name}/
exports: [{{name: e, layout: image_folder}}]
training: {SMALL}
"""
        (tmp_path / f"{name}.yaml").write_text(text)
    monkeypatch.setattr(places, "DATASETS", tmp_path)
    monkeypatch.setattr(places, "_told", lambda _: iter(()))
    monkeypatch.setattr(access, "get_auth_manager", Manager)
    monkeypatch.setattr(access.DagModel, "get_team_name", lambda _: None)
    monkeypatch.setattr("face_sets.bucket.pointer", lambda _: {"error": "nobody asks"})
    made = app.make_app()
    made.dependency_overrides[app.get_user] = object
    return made


def get(made: Any, path: str, method: str = "GET", **more: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=made)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, path, **more)

    return asyncio.run(ask())


def test_whoever_may_read_one_dag_sees_nothing_of_another(pages: Any) -> None:
    assert get(pages, "/mine/").status_code == 200
    routes = ("", "ask", "decisions", "releases/0123456789abcdef/", "releases/0123456789abcdef/look")
    for path in routes:
        hidden, absent = get(pages, f"/theirs/{path}"), get(pages, f"/nowhere/{path}")
        assert hidden.status_code == absent.status_code == 404
        assert hidden.text == absent.text
    for path in ("decide", "undo", "ask"):
        assert get(pages, f"/theirs/{path}", "POST", data={"decision": "drop_identity"}).status_code == 404


@pytest.mark.parametrize(("shown_to", "may_edit", "seen"), [
    ("editors", True, True), ("editors", False, False), ("readers", False, True), ("nobody", True, False),
])  # fmt: skip
def test_faces_are_shown_to_those_whom_the_dataset_file_says(
    shown_to: str, may_edit: bool, seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = {"name": "e", "layout": "image_folder"}
    declared = {"name": "d", "local_source": "/e", "output": "/o", "destination": "s3://bucket/d/"}
    dataset = Dataset.model_validate({**declared, "exports": [export], "faces_shown_to": shown_to})
    monkeypatch.setattr(access, "allows", lambda *_: may_edit)
    assert access.Visit(None, dataset, None, []).may_look is seen  # type: ignore[arg-type]


def test_an_app_that_cannot_be_made_says_so_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(app, "make_app", fail)
    loading.app.cache_clear()
    try:
        answer = get(loading.app(), "/")
    finally:
        loading.app.cache_clear()
    assert answer.status_code == 500
    assert "cannot be loaded" in answer.text
    assert "secret" not in answer.text
