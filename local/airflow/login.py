"""A login at Airflow's REST API."""

from collections.abc import Generator

import httpx

from local.airflow.settings import USER


class Login(httpx.Auth):
    """A token of Airflow's REST API, fetched when there is none or the old one has run out."""

    requires_response_body = True

    def __init__(self, base_url: str, password: str) -> None:
        self._request = httpx.Request("POST", f"{base_url}/auth/token", json={"username": USER, "password": password})
        self._token = ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        for _ in range(2):
            if not self._token:
                self._token = (yield self._request).raise_for_status().json()["access_token"]
            request.headers["Authorization"] = f"Bearer {self._token}"
            response = yield request
            if response.status_code != httpx.codes.UNAUTHORIZED:
                return
            self._token = ""
