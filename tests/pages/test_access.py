"""Nobody is let in: without login, with a viewer, from another site; and what is looked at is written down."""

import json
import re
from typing import Any

import httpx
import pytest
from face_sets.app import HEADERS, make_app

from tests.pages.conftest import Site

pytestmark = [pytest.mark.system, pytest.mark.long]


@pytest.fixture(scope="module")
def release(site: Site) -> str:
    return str(site.run()["release_id"])


def routes(release: str) -> list[tuple[str, str]]:
    """Every route of the app: method and path."""
    values = {"dataset": "faces", "release_id": release, "name": "manifest.parquet"}
    return [
        (method, re.sub(r"{(\w+)}", lambda found: values[found[1]], route.path))
        for router in _flat(make_app().routes)
        for route in [router]
        for method in sorted(route.methods)
    ]


def _flat(found: Any) -> list[Any]:
    """Routes, also those of routers that were included."""
    flat = []
    for one in found:
        inner = getattr(one, "original_router", None)
        flat += _flat(inner.routes) if inner is not None else [one]
    return flat


FORM = {"decision": "drop_identity", "identity": "ann", "why": "a test"}
FACES = ("look", "sheet.webp", "conflicts")
CHANGES = ("decide", "undo")


def ask(client: httpx.Client, method: str, path: str, **more: Any) -> httpx.Response:
    return client.request(method, path.lstrip("/"), data=FORM if method == "POST" else None, **more)


def test_without_login_every_route_answers_nothing(site: Site, release: str) -> None:
    found = routes(release)
    assert len(found) >= 15
    with site.client(None) as client:
        for method, path in found:
            answer = ask(client, method, path)
            assert answer.status_code == 401, (method, path)
            assert release not in answer.text
            assert "ann" not in answer.text.replace("cannot", "")


def test_a_viewer_reads_and_sees_no_face_and_decides_nothing(site: Site, release: str) -> None:
    with site.client("vera") as client:
        for method, path in routes(release):
            if method == "POST" and path.endswith("/ask"):
                continue
            answer = ask(client, method, path)
            barred = path.rpartition("/")[2] in {*FACES, *CHANGES, "roll-back"}
            assert answer.status_code == (403 if barred else 200), (method, path)
            assert "/sheet.webp" not in answer.text
    assert not (site.folder / "project/include/datasets/faces.decisions").exists()


def test_every_answer_forbids_what_it_does_not_need(site: Site, release: str) -> None:
    with site.client("admin") as client:
        for path in ("", "faces/", f"faces/releases/{release}/sheet.webp", "nowhere/", "static/style.css"):
            answer = client.get(path)
            assert {name: answer.headers[name] for name in HEADERS} == HEADERS, path


def test_a_form_of_another_site_is_refused(site: Site, release: str) -> None:
    with site.client("emil") as client:
        token = client.headers.pop("authorization").removeprefix("Bearer ")
        client.cookies.set("_token", token)
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {}):
            assert ask(client, "POST", "faces/decide", headers=headers).status_code == 403
            assert ask(client, "POST", f"faces/releases/{release}/roll-back", headers=headers).status_code == 403


@pytest.mark.parametrize("path", ["other/", "faces/releases/0000000000000000/", "faces/releases/../../x/"])
def test_what_is_not_there_is_not_told_apart(site: Site, release: str, path: str) -> None:
    with site.client("admin") as client:
        assert client.get(path).status_code == 404


def test_what_is_not_a_file_of_the_release_is_not_handed_out(site: Site, release: str) -> None:
    with site.client("admin") as client:
        for name in ("objects.parquet", "..%2f..%2flatest.json", "%2fetc%2fpasswd", "release.json"):
            assert client.get(f"faces/releases/{release}/files/{name}").status_code == 404


def test_a_decision_that_contradicts_is_refused_in_words(site: Site, release: str) -> None:
    with site.client("emil") as client:
        assert client.post("faces/decide", data=FORM).status_code == 303
        wrong = client.post("faces/decide", data={"decision": "same_person", "identity": "ann", "other": "cleo"})
        assert wrong.status_code == 409
        assert "contradict one another" in wrong.text
        odd = client.post("faces/decide", data={"decision": "drop_identity", "identity": "a/b"})
        assert (odd.status_code, "is no identity" in odd.text) == (409, True)
        assert client.post("faces/undo", data=FORM).status_code == 303
        assert client.post("faces/undo", data=FORM).status_code == 404


def test_looking_and_deciding_are_in_the_audit_log_and_no_name_is_in_the_access_log(site: Site, release: str) -> None:
    with site.client("emil") as client:
        client.get(f"faces/releases/{release}/sheet.webp")
        client.post("faces/ask", data={"q": "cleo"}, follow_redirects=True)
        client.post(f"faces/releases/{release}/look", data={"identity": "cleo"}, follow_redirects=True)
    with site.client("admin") as client:
        url = f"{site.airflow.base_url}/api/v2/eventLogs"
        logs = client.get(url, params={"dag_id": "faces", "limit": 100}).json()["event_logs"]
    written = {(one["event"], one["owner"]) for one in logs}
    assert {("face_sets_look", "emil"), ("face_sets_ask", "emil"), ("face_sets_decide", "emil")} <= written
    look = next(json.loads(one["extra"]) for one in logs if one["event"] == "face_sets_look")
    assert (look["release"], look["faces"]) == (release, 8)
    for log in (site.airflow.home / "logs").glob("*.log"):
        assert "cleo" not in log.read_text(), log


def test_whoever_is_to_be_erased_is_shown_no_more(site: Site, release: str) -> None:
    listed = site.folder / "project/include/datasets/faces.suppressed"
    listed.write_text("cleo\n")
    try:
        with site.client("admin") as client:
            here = f"faces/releases/{release}"
            for path in (here + "/look", here + "/conflicts", here + "/look?outcome=empty_file", "faces/"):
                answer = client.get(path)
                assert "cleo" not in answer.text, path
            told = client.post("faces/ask", data={"q": "cleo"}, follow_redirects=True)
            assert "table" not in told.text
            assert client.get(f"{here}/files/ledger.parquet").status_code == 409
    finally:
        listed.unlink()
