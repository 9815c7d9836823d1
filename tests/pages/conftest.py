"""A deployment with an administrator and a viewer, releases with conflicts, and a real browser."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from local.airflow import api, deployment, settings
from local.s3 import seaweed
from tests.needs import require
from tests.unit.faceset.pipeline import SMALL, face, put

BUCKET = "faces.livereachmedia.com"
USERS = "admin:admin,vera:viewer,emil:user"
CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
WIDE, NARROW = (1280, 900), (390, 844)


@dataclass(frozen=True)
class Site:
    """Airflow with the pages, and the folder of the exports."""

    airflow: api.Stack
    folder: Path

    @property
    def base(self) -> str:
        return f"{self.airflow.base_url}/face-sets"

    def client(self, user: str | None) -> httpx.Client:
        """A client that is logged in as a user."""
        login = f"{self.airflow.base_url}/auth/token"
        headers = {}
        if user is not None:
            body = {"username": user, "password": self.password(user)}
            headers = {"Authorization": f"Bearer {httpx.post(login, json=body).json()['access_token']}"}
        return httpx.Client(base_url=self.base, headers=headers, timeout=60)

    def password(self, user: str) -> str:
        found: str = json.loads(self.airflow.password_file.read_text())[user]
        return found

    def run(self, **conf: Any) -> dict[str, Any]:
        """Run the DAG; what its release's summary says."""
        run = self.airflow.trigger("faces", conf)
        assert self.airflow.wait(run, timeout=240) == "success"
        told = json.loads(Path(self.airflow.xcom(run, "summary")["summary"]).with_name("summary.json").read_text())
        return dict(told)


def bring(folder: Path) -> None:
    """Exports in which two pairs of identities share an image, one of them under a name that HTML must not read."""
    seeds = {"ann": [1, 2, 100], "b<b>en": [3, 4, 100], "cleo": [5, 6, 200], "dora": [7, 8, 200], "few": [9]}
    for name, images in seeds.items():
        for number, seed in enumerate(images):
            put(folder / f"training_data/{name}/{number}.jpg", face(seed))
    put(folder / "training_data/cleo/broken.jpg", face(10)[:-300])
    put(folder / "training_data/cleo/empty.jpg", b"")
    put(folder / "training_data/.hidden/1.jpg", face(11))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("pages")
    bring(folder / "exports")
    reference = yaml.safe_load((settings.ROOT / "include/datasets/reidnet_v3.yaml").read_text())
    declared = {
        "local_source": str(folder / "exports"),
        "output": str(folder / "merged"),
        "destination": f"s3://{BUCKET}/set/",
        "exports": [{"name": "training_data", "layout": "image_folder"}],
        "shards": 4,
        "training": SMALL,
        "max_delete_fraction": 1.0,
        "expected": reference["expected"],
    }
    deployment.copy_project(folder / "project", {"faces": declared})
    environment = {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": USERS}
    with (
        seaweed.running(folder / "s3", [BUCKET]) as server,
        deployment.running(folder / "project", server, environment=environment) as airflow,
    ):
        yield Site(airflow, folder)


@pytest.fixture(scope="session")
def browser() -> Iterator[webdriver.Chrome]:
    require(None if CHROMIUM and DRIVER else "chromium and chromium-driver are not installed: make servers")
    options = Options()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    driver.set_window_size(*WIDE)
    yield driver
    driver.quit()
