"""What README, docs and `make help` say is what there is."""

import re
import subprocess
from pathlib import Path

import pytest

from include.faceset.declared import params
from include.faceset.declared.loading import load

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_readme_is_one_screens_worth_of_steps() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_and_names_is_there(page: Path) -> None:
    text = page.read_text()
    links = {link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link}
    assert {link for link in links if not (page.parent / link).exists()} == set()
    commands = set(re.findall(r"(?:^|[`\s])make ([a-z0-9-]+)(?=[`\s]|$)", "\n".join(code(text))))
    assert commands - TARGETS == set()
    paths = set(re.findall(r"`((?:dags|include|plugins|local|bench|tests|docs|deploy)/[\w./-]+)`", text))
    assert {path for path in paths if not list(ROOT.glob(path.rstrip("/")))} == set()


def code(text: str) -> list[str]:
    """What stands as code in a page: its blocks, and its spans."""
    return [*re.findall(r"```bash\n(.*?)```", text, re.DOTALL), *re.findall(r"`[^`\n]+`", text)]


def test_every_param_stands_in_the_table_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.+) \|$", (ROOT / "docs/params.md").read_text(), re.MULTILINE)
    told = {name: default for name, default, _ in rows}
    there = params.defaults(load(ROOT / "include/datasets/reidnet_v3.yaml"))
    assert sorted(told) == sorted(there)
    for name, default in told.items():
        value = there[name]
        written = "none" if value is None else str(value).lower()
        assert default in {written, "dataset file"}, name


def test_make_help_lists_every_target_that_people_use() -> None:
    makefile = (ROOT / "Makefile").read_text()
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S607
    phony = set(re.findall(r"^\.PHONY: (\S+)", makefile, re.MULTILINE))
    assert phony - set(re.findall(r"^  make (\S+)", listed, re.MULTILINE)) == set()


def test_the_picture_shows_the_tasks_of_the_dag() -> None:
    picture = (ROOT / "docs/images/graph.svg").read_text()
    tasks = (ROOT / "dags/face_tasks/tasks.py").read_text()
    names = set(re.findall(r"^@task.*\ndef (\w+)", tasks, re.MULTILINE)) | {"approve_deletions", "sync"}
    assert names == set(re.search(r"<title>(.*?)</title>", picture)[1].split(", "))  # type: ignore[index]
