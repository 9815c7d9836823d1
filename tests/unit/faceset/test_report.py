"""report.html: the figures of a release to hand on, without a script, a face or a name; what if, and why."""

import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.faceset.declared.training import Training
from include.faceset.figures import charts, html
from include.faceset.report import what_if
from include.faceset.steps.summarise import summarise
from tests.unit.faceset.pipeline import TREE, Result, face, make_dataset, make_run, put, run_to_seal

CANARY = "Canary <Quill>"


class Tags(HTMLParser):
    """The tags of a page, which must nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.met: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.met.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in {"meta", "link", "input", "br", "img", "rect"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "rect":
            assert self.open.pop() == tag


def made(folder: Path, **changes: Any) -> tuple[Result, dict[str, Any], str]:
    for number in range(3):
        put(folder / f"exports/training_data/{CANARY}/{number}.jpg", face(number))
        put(folder / f"exports/training_data/ben/{number}.jpg", face(10 + number))
    put(folder / "exports/training_data/few/1.jpg", face(20))
    put(folder / "exports/training_data/ben/broken.jpg", face(30)[:-300])
    result = run_to_seal(make_run(make_dataset(folder, [TREE], **changes)))
    facts = summarise(result.run, result.sealed, [], None)
    return result, facts, (result.run.release(result.sealed.release_id) / "report.html").read_text()


def test_the_report_has_the_figures_and_no_script_face_or_name(tmp_path: Path) -> None:
    result, facts, text = made(tmp_path)
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert not tags.met & {"script", "img", "iframe", "link", "form", "a", "object"}
    assert not [name for name in tags.attributes if name.startswith("on") or name in {"style", "src", "href"}]
    assert "default-src 'none'" in text
    for name in ("Canary", "Quill", "ben/", "few/"):
        assert name not in text
    shown = dict(re.findall(r'<tr data-reason="(\w+)"><th scope="row">\w+</th><td class="number">([\d,]+)</td>', text))
    outcomes = list(result.outcomes.values())
    assert {name: int(count) for name, count in shown.items()} == {one: outcomes.count(one) for one in set(outcomes)}
    assert f"{facts['identities']} identities, {facts['images']} images" in text
    assert "@page { size: A4" in text


def test_a_release_of_which_little_is_known_has_a_report_too() -> None:
    facts = {"dataset": "faces", "release_id": "0" * 16, "identities": 1, "images": 2, "scanned_files": 2}
    text = html.render({**facts, "kept_files": 2, "bytes": 10, "rejected": {}})
    assert "2 files scanned = 2 kept" in text
    assert "Undefined" not in text


@pytest.mark.parametrize("min_images", [1, 2, 3, 5])
def test_what_if_says_what_that_run_would_give(tmp_path: Path, min_images: int) -> None:
    for number in range(1, 7):
        for image in range(number):
            put(tmp_path / f"exports/training_data/id {number}/{image}.jpg", face(10 * number + image))
    run = run_to_seal(make_run(make_dataset(tmp_path, [TREE], min_images=2)))
    told = summarise(run.run, run.sealed, [], None)
    wanted = next(one for one in told["what_if"] if one["min_images"] == min_images)
    other = run_to_seal(make_run(make_dataset(tmp_path, [TREE], min_images=min_images), "2"))
    assert (wanted["identities"], wanted["images"]) == (other.sealed.identities, other.sealed.images)
    assert told["lacking_one"] == 1


@given(st.dictionaries(st.integers(1, 50), st.integers(1, 10**6), max_size=8))
def test_a_higher_min_images_never_gives_more(by_images: dict[int, int]) -> None:
    found = what_if.what_if(by_images, Training())
    assert [one.min_images for one in found] == list(what_if.ASKED)
    assert found[0].images == sum(images * count for images, count in by_images.items())
    for one, other in itertools.pairwise(found):
        assert (other.identities, other.images) <= (one.identities, one.images)
        assert other.images >= other.min_images * other.identities


def test_the_reference_run_is_accounted_for_in_words() -> None:
    facts = {
        "identities": 102_491,
        "images": 430_143,
        "scanned_files": 820_999,
        "kept_files": 430_143,
        "min_images": 2,
        "avg_images_per_identity": 4.197,
        "rejected": {"too_few_images": 390_856},
        "expected": {"identities": 300_000, "images": 1_000_000, "images_per_identity": [3, 4]},
        "identities_by_images": {"1": 390_856, "2": 20_000, "3": 30_000, "5": 52_491},
        "lacking_one": 390_856,
    }
    text = "\n".join(what_if.explanation(facts))
    assert "There are 197,509 fewer identities than expected (102,491 of 300,000)." in text
    assert "390,856 identities have one image each and were left out; with them there would be 493,347" in text
    assert "that accounts for all that is missing" in text
    assert "An identity has 4.197 images in the mean, 3 to 4 were expected." in text
    assert "The distribution is healthy: 20 % of the identities have fewer than 3 images" in text
    assert "390,856 identities lack a single image" in text


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.integers(0, 10**9), min_size=1, max_size=9))
def test_charts_escape_what_they_are_given_and_stay_inside(counts: dict[str, int]) -> None:
    drawn = charts.columns(counts, '"><script>')
    assert "<script>" not in drawn
    for y, height in re.findall(r'y="(-?[\d.]+)" width="[\d.]+" height="(-?[\d.]+)"', drawn):
        assert 0 <= float(y) <= float(y) + float(height) <= 180
    for part in counts.values():
        found = re.search(r'x="([\d.]+)" width="([\d.]+)"', charts.bar(part, max(*counts.values(), 1), 0))
        assert found is not None
        assert float(found[1]) + float(found[2]) <= 100.001
