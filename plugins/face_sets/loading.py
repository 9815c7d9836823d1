"""The app, made at the first request; what fails then is told to whoever asks, and to the log."""

import logging
import sys
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
App = Callable[[Any, Any, Any], Awaitable[None]]


@cache
def app() -> App:
    """The pages, or an app that says that they cannot be loaded."""
    if str(ROOT) not in sys.path:  # Airflow puts its own folders on the path, but not `include`
        sys.path.insert(0, str(ROOT))
    try:
        from face_sets.app import make_app

        return make_app()
    # Whatever is wrong with a page must not stop the API server, nor say more to a stranger than that it is.
    except Exception:
        log.exception("the pages of the face sets cannot be loaded")
        return _broken


async def _broken(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 as an ASGI app is called
    if scope["type"] != "http":
        return
    text = b"The pages of the face sets cannot be loaded; the log of the API server says why."
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": text})
