"""Pages in Airflow's UI that show the datasets and their releases (plugins/face_sets).

Every component of Airflow loads this file; only the API server, at the first request of a page, loads the rest.
"""

from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

PREFIX = "/face-sets"


async def pages(scope: Any, receive: Any, send: Any) -> None:
    """The app of the pages; one that cannot be loaded says what is wrong, and leaves the API server alone."""
    from face_sets.loading import app

    await app()(scope, receive, send)


_BELOW = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")


class FaceSetsPlugin(AirflowPlugin):
    """Airflow finds it by its class."""

    name = "face_sets"
    fastapi_apps = [{"app": pages, "url_prefix": PREFIX, "name": "Face sets"}]  # noqa: RUF012 as Airflow declares it
    external_views = [  # noqa: RUF012
        {"name": "Face sets", "href": f"{_BELOW}{PREFIX}/", "url_route": "face-sets", "destination": "nav"},
        {"name": "Dataset", "href": f"{_BELOW}{PREFIX}/{{DAG_ID}}/", "url_route": "dataset", "destination": "dag"},
    ]
