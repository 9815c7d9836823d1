"""The pages in a real browser, against a real Airflow and a real bucket: what a person sees is what the tables hold."""

import os
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from include.faceset.report.counts import histogram
from tests.pages.conftest import NARROW, WIDE, Site

pytestmark = [pytest.mark.system, pytest.mark.long]

AXE = (files("axe_core_python") / "axe.min.js").read_text()
TIMEOUT_S = 30
PICTURES = os.environ.get("PICTURES")


@pytest.fixture(scope="module")
def first(site: Site) -> dict[str, Any]:
    return site.run()


@pytest.fixture(scope="module")
def seen(site: Site, first: dict[str, Any], browser: Chrome) -> Chrome:
    """The browser, with the administrator logged in."""
    browser.get(f"{site.airflow.base_url}/auth/login")
    wait(browser, "input[name=password]").send_keys(site.password("admin"))
    browser.find_element(By.CSS_SELECTOR, "input[name=username]").send_keys("admin")
    browser.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
    WebDriverWait(browser, TIMEOUT_S).until(lambda one: one.get_cookie("_token"))
    return browser


def wait(browser: Chrome, selector: str) -> Any:
    return WebDriverWait(browser, TIMEOUT_S).until(lambda one: one.find_elements(By.CSS_SELECTOR, selector))[0]


def visit(browser: Chrome, site: Site, path: str) -> str:
    browser.get(f"{site.base}/{path}")
    return str(wait(browser, "main").text)


def visit_until(browser: Chrome, site: Site, path: str, words: str) -> str:
    """Look again until a page says something: it does not wait for the bucket."""

    def says(_: Chrome) -> str | None:
        text = visit(browser, site, path)
        return text if words in text else None

    return str(WebDriverWait(browser, 2 * TIMEOUT_S).until(says))


def number(text: str) -> int:
    return int(text.replace(",", ""))


def table(browser: Chrome, name: str) -> dict[str, list[str]]:
    """The cells of each row of a table, by its heading."""
    found = {}
    for row in browser.find_elements(By.CSS_SELECTOR, f"#{name} tr"):
        if heading := row.find_elements(By.CSS_SELECTOR, "th[scope=row]"):
            found[heading[0].text] = [cell.text for cell in row.find_elements(By.TAG_NAME, "td")]
    return found


def click(browser: Chrome, label: str) -> None:
    button = next(one for one in browser.find_elements(By.TAG_NAME, "button") if one.text == label)
    before = browser.find_element(By.TAG_NAME, "html")
    browser.execute_script("arguments[0].scrollIntoView()", button)
    button.click()
    WebDriverWait(browser, TIMEOUT_S).until(lambda one: one.find_element(By.TAG_NAME, "html") != before)


def every_page(first: dict[str, Any]) -> dict[str, str]:
    here = f"faces/releases/{first['release_id']}"
    return {
        "all": "",
        "dataset": "faces/",
        "release": f"{here}/",
        "look": f"{here}/look",
        "conflicts": f"{here}/conflicts",
        "ask": "faces/ask",
        "decisions": "faces/decisions",
        "roll-back": f"{here}/roll-back",
    }


def test_the_figures_of_a_release_are_those_of_its_tables(site: Site, seen: Chrome, first: dict[str, Any]) -> None:
    folder = site.folder / "merged.releases" / first["release_id"]
    ledger, classes = (pq.read_table(folder / f"{name}.parquet", partitioning=None) for name in ("ledger", "classes"))
    text = visit_until(seen, site, f"faces/releases/{first['release_id']}/", "yes, this release")
    outcomes = Counter(ledger["outcome"].to_pylist())
    shown = {name: number(cells[0]) for name, cells in table(seen, "funnel").items()}
    assert shown == {**outcomes, "scanned": ledger.num_rows}
    assert f"{classes.num_rows:,} identities, {outcomes['kept']:,} images" in text
    exports = table(seen, "exports")["training_data"]
    assert [number(cell) for cell in exports[1:4]] == [ledger.num_rows, 5, outcomes["kept"]]
    bars = seen.find_elements(By.CSS_SELECTOR, "svg.chart text")
    counts = histogram(classes["images"])
    assert [bar.text for bar in bars] == [text for name, count in counts.items() for text in (str(count), name)]
    asked = {name: [number(cell) for cell in cells] for name, cells in table(seen, "what-if").items()}
    assert asked["1"][:2] == [5, 9]
    assert asked["2 (now)"][:2] == [4, 8]
    assert asked["3"][:2] == [0, 0]
    card = visit(seen, site, "")
    assert f"{classes.num_rows} identities, {outcomes['kept']} images" in card
    assert "4 files wait for a decision" in card


def test_a_question_is_answered_with_the_outcome_and_what_would_change_it(
    site: Site, seen: Chrome, first: dict[str, Any]
) -> None:
    visit(seen, site, "faces/")
    seen.find_element(By.NAME, "q").send_keys("b<b>en")
    click(seen, "Ask")
    assert "b%3C" not in seen.current_url
    assert "ben" not in seen.current_url
    rows = [row.text for row in seen.find_elements(By.CSS_SELECTOR, "table.answer tr")[1:]]
    assert len(rows) == 3
    assert sum("kept as b<b>en/" in row for row in rows) == 2
    assert sum("identity_conflict" in row and "keep_under" in row for row in rows) == 1
    for question, count in (("cleo/broken.jpg", 1), ("broken.jpg", 1), ("few", 1), ("nobody at all", 0)):
        field = seen.find_element(By.NAME, "q")
        field.clear()
        field.send_keys(question)
        click(seen, "Ask")
        assert len(seen.find_elements(By.CSS_SELECTOR, "table.answer tr")[1:]) == count, question


def test_a_sheet_shows_faces_of_a_reason_and_of_an_identity(site: Site, seen: Chrome, first: dict[str, Any]) -> None:
    here = f"faces/releases/{first['release_id']}"
    for wanted, faces in (("look", 8), ("look?outcome=identity_conflict", 4), ("look?outcome=empty_file", 1)):
        visit(seen, site, f"{here}/{wanted}")
        assert len(table_rows(seen, "files")) == faces
        assert_drawn(seen, faces)
    visit(seen, site, f"{here}/look")
    seen.find_element(By.NAME, "identity").send_keys("cleo")
    click(seen, "Look")
    assert len(table_rows(seen, "files")) == 5
    assert_drawn(seen, 5)
    Select(seen.find_element(By.NAME, "outcome")).select_by_visible_text("empty_file")


def table_rows(browser: Chrome, name: str) -> list[Any]:
    return browser.find_elements(By.CSS_SELECTOR, f"#{name} tr")[1:]


def assert_drawn(browser: Chrome, faces: int) -> None:
    """The sheet has been loaded, and is as wide as its faces."""
    sheet = browser.find_element(By.CSS_SELECTOR, "img.sheet")
    width = browser.execute_script("return arguments[0].naturalWidth", sheet)
    assert width == 4 + min(10, faces) * 116


def test_a_conflict_is_decided_on_the_page_and_the_next_run_keeps_the_image(
    site: Site, seen: Chrome, first: dict[str, Any]
) -> None:
    visit(seen, site, f"faces/releases/{first['release_id']}/conflicts")
    assert len(seen.find_elements(By.CSS_SELECTOR, "section.card")) == 2
    assert all(
        seen.execute_script("return arguments[0].naturalWidth", image) > 0
        for image in seen.find_elements(By.CSS_SELECTOR, "img.sheet")
    )
    click(seen, "Keep it under b<b>en")
    assert table(seen, "decisions")["keep_under"][1] == "b<b>en"
    assert table(seen, "decisions")["keep_under"][4] == "admin"
    second = site.run()
    assert (first["images"], second["images"]) == (8, 9)
    assert second["rejected"]["dropped_by_decision"] == 1
    assert second["rejected"]["identity_conflict"] == 2
    assert second["decisions"][0]["files"] == 2

    visit(seen, site, "faces/")
    click(seen, "Compare")
    assert table(seen, "compared")["images added"] == ["1"]
    visit(seen, site, "faces/decisions")
    click(seen, "Undo")
    assert "Nothing was decided." in seen.find_element(By.TAG_NAME, "main").text


def test_a_release_is_rolled_back_to_from_its_page(site: Site, seen: Chrome, first: dict[str, Any]) -> None:
    visit(seen, site, f"faces/releases/{first['release_id']}/roll-back")
    assert table(seen, "params") == {"release": [first["release_id"]]}
    click(seen, "Trigger the run")
    run_id = wait(seen, "p.good a").text
    site.airflow.until(lambda: site.airflow.runs("faces").get(run_id) == "success", "the roll back", 240)
    text = visit(seen, site, f"faces/releases/{first['release_id']}/")
    assert "It is in place." in text


def test_in_airflows_frame_it_has_its_theme_and_links_leave_it(site: Site, seen: Chrome, first: dict[str, Any]) -> None:
    for path in ("plugin/face-sets", "dags/faces/plugin/dataset"):
        seen.get(f"{site.airflow.base_url}/{path}")
        seen.switch_to.frame(wait(seen, "iframe"))
        wait(seen, "main h1")
        for theme in ("dark", "light"):
            seen.switch_to.default_content()
            seen.execute_script(f"document.documentElement.className = '{theme}'")
            seen.switch_to.frame(wait(seen, "iframe"))
            wait(seen, f"html[data-theme={theme}]")
        seen.switch_to.default_content()
    seen.get(f"{site.airflow.base_url}/dags/faces/plugin/dataset")
    seen.switch_to.frame(wait(seen, "iframe"))
    wait(seen, f"a[href$='{first['release_id']}/']").click()
    link = wait(seen, "a[data-airflow]")
    seen.execute_script("arguments[0].click()", link)
    seen.switch_to.default_content()
    WebDriverWait(seen, TIMEOUT_S).until(lambda one: "/dags/faces/runs/" in one.current_url)


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_can_be_used_by_everybody(
    site: Site, seen: Chrome, first: dict[str, Any], theme: str, size: tuple[int, int]
) -> None:
    seen.set_window_size(*size)
    try:
        for name, path in every_page(first).items():
            visit(seen, site, path)
            seen.execute_script(f"document.documentElement.dataset.theme = '{theme}'")
            seen.execute_script(AXE)
            found = seen.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
            wrong = {one["id"]: [node["html"] for node in one["nodes"]] for one in found["violations"]}
            assert wrong == {}, name
            overflow = seen.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
            assert overflow <= 0, name
            if PICTURES:
                seen.save_screenshot(str(Path(PICTURES) / f"{name}-{theme}-{size[0]}.png"))
    finally:
        seen.set_window_size(*WIDE)


def test_nothing_is_asked_of_another_server(site: Site, seen: Chrome, first: dict[str, Any]) -> None:
    for path in every_page(first).values():
        visit(seen, site, path)
        asked = seen.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
        assert asked
        assert all(one.startswith(site.airflow.base_url) for one in asked), asked
        assert not [line for line in seen.get_log("browser") if line["level"] == "SEVERE"]
