"""The app: every route asks for a user, every answer forbids what it does not need, browsers keep nothing."""

from collections.abc import Awaitable, Callable

from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, FastAPI, Request, Response
from starlette.exceptions import HTTPException as AnyHTTPException

from face_sets import decide, faces, pages
from face_sets.render import page, static
from include.faceset.errors import Final

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'self'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}


def make_app() -> FastAPI:
    """The pages, to be mounted into Airflow's API server."""
    made = FastAPI(title="Face sets", openapi_url=None, dependencies=[Depends(get_user)])
    made.include_router(static)
    made.include_router(faces.router)
    made.include_router(decide.router)
    made.include_router(pages.router)  # last: its paths are the most general
    made.add_exception_handler(AnyHTTPException, _told)
    made.add_exception_handler(Final, _refused)
    made.middleware("http")(_with_headers)
    return made


async def _with_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    answer = await call_next(request)
    answer.headers.update(HEADERS)
    return answer


def _told(request: Request, error: Exception) -> Response:
    status, detail = (error.status_code, error.detail) if isinstance(error, AnyHTTPException) else (500, "")
    if status == 401:
        detail = "Log in to Airflow first, then open this page again."
    return page(request, "told.html.j2", status=status, title="Not shown", detail=detail)


def _refused(request: Request, error: Exception) -> Response:
    """What the domain refuses, such as a decision that contradicts another, in its own words."""
    return page(request, "told.html.j2", status=409, title="This cannot be done", detail=str(error))
