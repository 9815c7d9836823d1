"""`make looks`: how often the thresholds for pictures are wrong, on drawn faces whose truth is known, and how fast.

CLEANVISION may name a Python that has cleanvision 0.3.7: the same files are then put to it as well.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageFilter

from include.faceset.declared.pictures import Pictures
from include.faceset.images import judge, pictures
from local.sample import faces

OF_EACH = 200
SIZE = (112, 112)
RULES = Pictures(too_dark=30, too_bright=225, placeholder=4, blurred=10)
"""What is tried; chosen by looking at the summary of such faces, as one would."""
DAMAGE: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "too_dark": lambda face, rng: face.point(lambda value: value // int(rng.integers(6, 12))),
    "too_bright": lambda face, rng: face.point(lambda value: 255 - (255 - value) // int(rng.integers(6, 12))),
    "blurred": lambda face, rng: face.filter(ImageFilter.GaussianBlur(float(rng.uniform(2, 5)))),
    "placeholder": lambda _, rng: Image.new("RGB", SIZE, tuple(rng.integers(0, 256, 3).tolist())),
}
THEIRS = {"too_dark": "dark", "too_bright": "light", "blurred": "blurry", "placeholder": "low_information"}
"""What cleanvision calls them."""
_CLEANVISION = """
import json, sys
from cleanvision import Imagelab
lab = Imagelab(data_path=sys.argv[1], verbose=False)
lab.find_issues({name: {} for name in json.loads(sys.argv[2])}, verbose=False)
found = {}
for path, row in lab.issues.iterrows():
    found[path.rpartition("/")[2]] = [name for name in json.loads(sys.argv[2]) if row[f"is_{name}_issue"]]
print("FOUND" + json.dumps(found))
"""


@dataclass(frozen=True)
class Score:
    """Of a kind of damage: how many were found of those that are there, and how many good faces were taken for it."""

    found: int
    wrong: int


def draw(folder: Path) -> dict[str, str]:
    """Faces, good ones and damaged ones, as JPEGs; the kind of each file."""
    rng = np.random.default_rng(7)
    kinds = {}
    for kind in ("good", *DAMAGE):
        for number in range(OF_EACH):
            face = Image.fromarray(faces.portrait(faces.person(rng), rng))
            image = face if kind == "good" else DAMAGE[kind](face, rng)
            kinds[f"{kind}-{number}.jpg"] = kind
            image.save(folder / f"{kind}-{number}.jpg", quality=94)
    return kinds


def ours(folder: Path, kinds: dict[str, str]) -> dict[str, list[str]]:
    """What our thresholds say of each file: one reason, or none."""
    found = {}
    with judge.without_warnings():
        for name in kinds:
            picture = judge.inspect((folder / name).read_bytes(), SIZE, "full", closely=True).picture
            look = pictures.measure([picture])[0] if picture is not None else None
            outcome = look and pictures.outcome_of(RULES, *look[:3])
            found[name] = [outcome.value] if outcome else []
    return found


def theirs(python: str, folder: Path) -> dict[str, list[str]]:
    """What cleanvision says of each file, in our words."""
    command = [python, "-c", _CLEANVISION, str(folder), json.dumps(list(THEIRS.values()))]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    ours_of = {name: kind for kind, name in THEIRS.items()}
    found: dict[str, list[str]] = json.loads(said.rpartition("FOUND")[2])
    return {name: [ours_of[one] for one in names] for name, names in found.items()}


def scores(kinds: dict[str, str], found: dict[str, list[str]]) -> dict[str, Score]:
    """How right a tool is, by kind of damage."""
    return {
        kind: Score(
            found=sum(kind in found[name] for name, truth in kinds.items() if truth == kind),
            wrong=sum(kind in found[name] for name, truth in kinds.items() if truth == "good"),
        )
        for kind in DAMAGE
    }


def table(kinds: dict[str, str], by_tool: dict[str, tuple[dict[str, list[str]], float]]) -> Iterator[str]:
    """The figures as Markdown."""
    yield f"| {OF_EACH} drawn faces of each kind | " + " | ".join(f"{tool}: found, wrong" for tool in by_tool) + " |"
    yield "| --- | " + " | ".join("---:" for _ in by_tool) + " |"
    told = {tool: scores(kinds, found) for tool, (found, _) in by_tool.items()}
    for kind in DAMAGE:
        cells = (f"{told[tool][kind].found}, {told[tool][kind].wrong}" for tool in by_tool)
        yield f"| {kind} | " + " | ".join(cells) + " |"
    yield "| µs an image | " + " | ".join(f"{1e6 * took / len(kinds):,.0f}" for _, took in by_tool.values()) + " |"


def main() -> int:
    """Draw, look, and print."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        kinds = draw(folder)
        by_tool = {}
        began = time.perf_counter()
        by_tool["thresholds here"] = (ours(folder, kinds), time.perf_counter() - began)
        if python := os.environ.get("CLEANVISION"):
            began = time.perf_counter()
            by_tool["cleanvision 0.3.7"] = (theirs(python, folder), time.perf_counter() - began)
        print("\n".join(table(kinds, by_tool)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
