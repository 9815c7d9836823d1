"""Templates into answers, and the two static files."""

from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import ChoiceLoader, Environment, FileSystemLoader

from face_sets.sealing import sealed
from include.faceset.figures import html

HERE = Path(__file__).parent
static = APIRouter()


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page; `base` is where the app is mounted, as the browser sees it."""
    base = request.scope.get("root_path", "").rstrip("/")
    text = _environment().get_template(template).render(base=base, **values)
    return HTMLResponse(text, status_code=status)


@cache
def _environment() -> Environment:
    made = html.environment()
    own = FileSystemLoader(HERE / "templates")
    made.loader = ChoiceLoader([own, *([made.loader] if made.loader else [])])
    made.filters["sealed"] = sealed
    made.filters["path"] = lambda text: quote(text, safe="")
    return made


@static.get("/static/style.css")
def style() -> Response:
    """The style sheet, the same as the report's."""
    return Response(html.style_sheet(), media_type="text/css")


@static.get("/static/frame.js")
def script() -> Response:
    """The script: Airflow's theme, and links that leave the frame."""
    return Response((HERE / "static" / "frame.js").read_text(encoding="utf-8"), media_type="text/javascript")
