"""Dataset files: the reference, the mistakes, the schema."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from include.faceset import dataset

DATASETS = Path(__file__).parents[3] / "include" / "datasets"


def test_the_reference_dataset_says_what_the_team_agreed_on() -> None:
    reference = dataset.load(DATASETS / "reidnet_v3.yaml")
    assert [(export.name, export.layout) for export in reference.exports] == [
        ("faces_only", "flat"),
        ("reidnet_v2_training_data", "image_folder"),
    ]
    assert reference.min_images == 2
    assert reference.image_size == (112, 112)
    assert (reference.training.batch_size, reference.training.gpus, reference.training.num_epoch) == (128, 8, 24)
    assert reference.destination == "s3://data-labeling.livereachmedia.com/datasets/reidnet_v3/rekognition_set/"


def test_the_published_schema_is_the_models_and_accepts_every_dataset_file() -> None:
    published = (DATASETS / "dataset.schema.json").read_text()
    assert published == dataset.json_schema(), "run: make schema"
    for path in dataset.find(DATASETS):
        jsonschema.validate(yaml.safe_load(path.read_text()), json.loads(published))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_images": 0}, "bad.yaml: min_images: "),
        ({"min_images": "two"}, "bad.yaml: min_images: "),
        ({"min_image": 2}, "bad.yaml: min_image: .* correct its spelling; allowed here: .*min_images"),
        ({"destination": "s3://bucket"}, "bad.yaml: destination: "),
        ({"destination": "s3://bucket/"}, "bad.yaml: destination: "),
        ({"output": "relative/path"}, "bad.yaml: output: "),
        ({"exports": []}, "bad.yaml: exports: "),
        ({"exports": [{"name": "a", "layout": "guess"}]}, "bad.yaml: exports.0: .*layout: image_folder"),
        ({"exports": [{"name": "a", "layout": "flat"}]}, "bad.yaml: exports.0.pattern: .*add it"),
        ({"exports": [{"name": "a", "layout": "flat", "pattern": "face.png"}]}, "exports.0.pattern: .*exactly once"),
        ({"exports": [{"name": "a", "layout": "image_folder"}] * 2}, "the name 'a' is used twice"),
        ({"training": {"gpu": 8}}, "bad.yaml: training.gpu: .*allowed here: .*gpus"),
        ({"name": "other"}, "bad.yaml: name: .*remove the field"),
    ],
)
def test_a_mistake_is_told_with_file_field_and_remedy(tmp_path: Path, change: dict[str, object], message: str) -> None:
    declared = yaml.safe_load((DATASETS / "reidnet_v3.yaml").read_text())
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(declared | change))
    with pytest.raises(dataset.DatasetError, match=message):
        dataset.load(path)


@pytest.mark.parametrize("text", ["", "- a list", "a: [unclosed", "\x00"])
def test_a_file_that_is_no_mapping_is_told_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(dataset.DatasetError, match=r"^bad\.yaml: "):
        dataset.load(path)


def test_a_dataset_file_with_a_dash_in_its_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "reid-net.yaml"
    path.write_text((DATASETS / "reidnet_v3.yaml").read_text())
    with pytest.raises(dataset.DatasetError, match="rename the file"):
        dataset.load(path)


@pytest.mark.parametrize(
    ("pattern", "name", "identity"),
    [
        ("{identity}_face.png", "anna_face.png", "anna"),
        ("{identity}_face.png", "a_face_face.png", "a_face"),
        ("{identity}_face.png", "anna_face.jpg", None),
        ("{identity}_face.png", "_face.png", None),
        ("{identity}_face.png", "anna_faceXpng", None),
        ("{identity}_*.png", "anna_maria_1.png", "anna_maria"),
    ],
)
def test_the_pattern_of_a_flat_export_gives_the_identity(pattern: str, name: str, identity: str | None) -> None:
    export = dataset.FlatExport(name="a", layout="flat", pattern=pattern)
    matched = export.regex().fullmatch(name)
    assert (matched["identity"] if matched else None) == identity
