"""What an image file is, as the trainer's loader sees it."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from include.faceset.images import judge
from include.faceset.ledger import Outcome

SIZE = (112, 112)
KINDS: list[tuple[str, dict[str, object]]] = [
    ("RGB", {}),
    ("RGB", {"progressive": True}),
    ("RGB", {"subsampling": 0, "restart_marker_rows": 1}),
    ("RGB", {"subsampling": 1, "optimize": True}),
    ("L", {"progressive": True}),
    ("L", {"quality": 30}),
    ("CMYK", {}),
]


def jpeg(kind: int) -> bytes:
    mode, options = KINDS[kind]
    noise = Image.frombytes("RGB", (8, 8), bytes(range(192))).resize(SIZE).convert(mode)
    written = io.BytesIO()
    noise.save(written, "JPEG", **options)
    return written.getvalue()


WHOLE = [jpeg(kind) for kind in range(len(KINDS))]


def pillow_loads(data: bytes) -> bool:
    """What kills the trainer's loader, and what does not: Pillow, then `convert("RGB")`."""
    try:
        with Image.open(io.BytesIO(data), formats=judge.FORMATS) as image:
            image.convert("RGB")
    # Whatever is raised would kill the loader.
    except Exception:  # noqa: BLE001
        return False
    return True


def pillow_opens(data: bytes) -> tuple[str | None, str, tuple[int, int]]:
    """What Pillow reads in a header."""
    with Image.open(io.BytesIO(data), formats=judge.FORMATS) as image:
        return image.format, image.mode, image.size


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_a_whole_image_is_good_and_a_cut_one_is_not(kind: int) -> None:
    assert judge.inspect(WHOLE[kind], SIZE, "full")[:3] == (None, "JPEG", KINDS[kind][0])
    assert judge.inspect(WHOLE[kind][:-400], SIZE, "full").rejected is Outcome.CORRUPT


@pytest.mark.long
@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(WHOLE), st.data())
def test_a_damaged_image_is_judged_as_the_trainer_would(whole: bytes, data: st.DataObject) -> None:
    start = data.draw(st.one_of(st.integers(0, 700), st.integers(0, len(whole))))
    instead = data.draw(st.binary(max_size=8))
    damaged = whole[:start] + instead + whole[start + data.draw(st.integers(0, 40)) :]
    seen = judge.inspect(damaged, SIZE, "full")
    if seen.rejected in {None, Outcome.CORRUPT}:
        assert (seen.rejected is None) == pillow_loads(damaged)
    if (header := judge.inspect(damaged, SIZE, "header")).rejected is None:
        assert pillow_opens(damaged) == ("JPEG", header.colour, SIZE)
