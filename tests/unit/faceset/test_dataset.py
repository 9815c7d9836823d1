"""Dataset files: the reference, the mistakes, the schema."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from include.faceset.declared import dataset, loading
from include.faceset.declared.layouts import flat, image_folder
from tests.unit.faceset.pipeline import make_dataset

DATASETS = Path(__file__).parents[3] / "include" / "datasets"


def test_the_reference_dataset_says_what_the_team_agreed_on() -> None:
    reference = loading.load(DATASETS / "reidnet_v3.yaml")
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
    for path in loading.find(DATASETS):
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
        (
            {"training": {"wandb_key": "k"}},
            "training.wandb_key: .*allowed here: .*fp16.*margin_list.*",
        ),
        ({"training": {"num_classes": 9}}, "bad.yaml: training.num_classes: .*allowed here: "),
        ({"training": {"fp16": "yes"}}, "bad.yaml: training.fp16: .*valid boolean"),
        ({"training": {"margin_list": [1.0, 0.5]}}, "bad.yaml: training.margin_list"),
        (
            {"training": {"num_epoch": 2, "warmup_epoch": 2}},
            "all 2 epochs .num_epoch. would be warm-up .* at most 1",
        ),
        ({"training": {"data_root": "synthetic"}}, "bad.yaml: training.data_root: "),
        ({"forms": []}, "bad.yaml: forms: "),
        ({"forms": ["tar"]}, "bad.yaml: forms.0: .*'image_folder' or 'record'"),
        ({"forms": ["record", "record"]}, "bad.yaml: forms: .*'record' is named twice"),
        ({"keep_records": 0}, "bad.yaml: keep_records: "),
        ({"holdout": {"pairs": 40}}, "bad.yaml: holdout.fraction: .*add it"),
        ({"holdout": {"fraction": 0.6}}, "bad.yaml: holdout.fraction: .*less than or equal to 0.5"),
        ({"holdout": {"fraction": 0.1, "pairs": 18}}, "bad.yaml: holdout.pairs: .*greater than or equal to 20"),
        ({"holdout": {"fraction": 0.1, "pairs": 21}}, "bad.yaml: holdout.pairs: .*multiple of 2"),
        ({"holdout": {"fraction": 0.1, "seed": 1}}, "bad.yaml: holdout.seed: .*allowed here: fraction, pairs"),
        ({"schedule": "every friday"}, "bad.yaml: schedule: .*no cron expression and none of @daily"),
        ({"schedule": "@once"}, "bad.yaml: schedule: "),
        ({"partition_format": "%d %B"}, "bad.yaml: partition_format: .*must name year, month and day"),
        ({"partition_format": "%Y/%m/%d"}, "bad.yaml: partition_format: "),
        ({"publish": "never"}, "bad.yaml: publish: "),
        (
            {"exports": [{"name": "a", "layout": "image_folder", "root": "{partition}/{partition}"}]},
            "exports.0.root: .*partition. once",
        ),
        (
            {"exports": [{"name": "a", "layout": "image_folder", "root": "a/{date}"}]},
            "exports.0.root: .*no other braces",
        ),
        ({"exports": [{"name": "a", "layout": "image_folder", "root": "s3://bucket/a"}]}, "root: .*a slash at its end"),
        ({"exports": [{"name": "a", "layout": "image_folder", "root": "s3://bucket/"}]}, "root: .*s3://bucket/prefix/"),
        ({"exports": [{"name": "a", "layout": "image_folder", "root": "s3://b/../x/"}]}, "exports.0.root: "),
        ({"exports": [{"name": "a", "layout": "image_folder", "root": "gs://bucket/a/"}]}, "exports.0.root: "),
        ({"exports": [{"name": "a", "layout": "image_folder", "root": "s3://bucket/{partition}/"}]}, "root: "),
        ({"exports": [{"name": "a\n", "layout": "image_folder"}]}, "bad.yaml: exports.0.name: "),
        ({"exports": [{"name": "a", "layout": "image_folder", "root": "a\n"}]}, "bad.yaml: exports.0.root: "),
        ({"destination": "s3://bucket/../set/"}, "bad.yaml: destination: "),
        ({"output": "/data/merged\n"}, "bad.yaml: output: "),
        ({"aws_conn_id": ""}, "bad.yaml: aws_conn_id: "),
        ({"min_images": 10**30}, "bad.yaml: min_images: .*less than or equal to 2147483647"),
        ({"training": {"lr": float("inf")}}, "bad.yaml: training.lr: .*finite"),
        ({"releases": "/kept"}, "bad.yaml: file: .*either `output` .* or, .* `releases`"),
        ({"output": None}, "bad.yaml: file: .*either `output`"),
        ({"local_source": None}, "local_source: add it: export 'faces_only' lies in it"),
        ({"name": "other"}, "bad.yaml: name: .*remove the field"),
    ],
)
def test_a_mistake_is_told_with_file_field_and_remedy(tmp_path: Path, change: dict[str, object], message: str) -> None:
    declared = yaml.safe_load((DATASETS / "reidnet_v3.yaml").read_text())
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(declared | change))
    with pytest.raises(loading.DatasetError, match=message):
        loading.load(path)


@pytest.mark.parametrize("text", ["", "- a list", "a: [unclosed", "\x00"])
def test_a_file_that_is_no_mapping_is_told_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(loading.DatasetError, match=r"^bad\.yaml: "):
        loading.load(path)


def test_a_dataset_file_with_a_dash_in_its_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "reid-net.yaml"
    path.write_text((DATASETS / "reidnet_v3.yaml").read_text())
    with pytest.raises(loading.DatasetError, match="rename the file"):
        loading.load(path)


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
    export = flat.FlatExport(name="a", layout="flat", pattern=pattern)
    matched = export.regex().fullmatch(name)
    assert (matched["identity"] if matched else None) == identity


@pytest.mark.parametrize(
    ("root", "folder", "part"),
    [
        (None, "/source/a", ""),
        ("faces", "/source/faces", ""),
        ("faces/{partition}", "/source/faces", "2026-05-01"),
        ("{partition}", "/source", "2026-05-01"),
        ("faces/dt={partition}/images", "/source/faces", "dt=2026-05-01/images"),
        ("/mnt/{partition}/faces", "/mnt", "2026-05-01/faces"),
        ("/{partition}", "/", "2026-05-01"),
    ],
)
def test_the_root_of_an_export_splits_where_its_parts_begin(root: str | None, folder: str, part: str) -> None:
    export = image_folder.ImageFolderExport(name="a", layout="image_folder", root=root)
    assert str(export.folder(Path("/source"))) == folder
    assert export.part("2026-05-01") == part
    assert export.dated == bool(part)
    assert not export.in_s3


@pytest.mark.parametrize(
    ("root", "prefix", "part"),
    [
        ("s3://bucket/faces/", "s3://bucket/faces/", ""),
        ("s3://bucket/faces/{partition}/", "s3://bucket/faces/", "2026-05-01"),
        ("s3://bucket/a/dt={partition}/images/", "s3://bucket/a/", "dt=2026-05-01/images"),
    ],
)
def test_the_root_of_an_export_in_s3_does_too(root: str, prefix: str, part: str) -> None:
    export = image_folder.ImageFolderExport(name="a", layout="image_folder", root=root)
    assert (export.in_s3, export.prefix, export.part("2026-05-01")) == (True, prefix, part)


@pytest.mark.parametrize(
    ("form", "name", "right"),
    [
        ("%Y-%m-%d", "2026-05-01", True),
        ("%Y-%m-%d", "2026-5-1", False),
        ("%Y-%m-%d", "2026-05-01.partial", False),
        ("%Y-%m-%d", "2026-02-30", False),
        ("%Y%m%dT%H", "20260501T07", True),
        ("%Y%m%dT%H", "../20260501T07", False),
    ],
)
def test_a_part_has_exactly_one_name(tmp_path: Path, form: str, name: str, right: bool) -> None:
    assert make_dataset(tmp_path, partition_format=form).is_partition(name) == right


@pytest.mark.parametrize(
    ("place", "shares"),
    [
        ("s3://faces/set/", True),
        ("s3://faces/set/inside/", True),
        ("s3://faces/around/", True),
        ("s3://faces/set2/", False),
        ("s3://faces/around/other/", False),
        ("s3://other/set/", False),
    ],
)
def test_two_datasets_share_no_destination(tmp_path: Path, place: str, *, shares: bool) -> None:
    others = [
        make_dataset(tmp_path, name=name, destination=destination)
        for name, destination in (("one", "s3://faces/set/"), ("two", "s3://faces/around/two/"))
    ]
    why = loading.shared_destination({place}, others)
    assert (why is not None) == shares
    if why:
        assert place in why
        assert "give each dataset a destination of its own" in why


@pytest.mark.parametrize("field", ["min_images: 2\nmin_images: 3\n", "training: {lr: 0.01, lr: 0.1}\n"])
def test_a_field_that_is_there_twice_is_an_error(tmp_path: Path, field: str) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text((DATASETS / "reidnet_v3.yaml").read_text().split("min_images:")[0] + field)
    with pytest.raises(
        loading.DatasetError, match=r"twice\.yaml: cannot be read as YAML: (min_images|lr) is there twice"
    ):
        loading.load(path)


def test_two_files_of_one_dataset_are_an_error(tmp_path: Path) -> None:
    for name in ("one.yaml", "one.yml"):
        (tmp_path / name).write_text((DATASETS / "reidnet_v3.yaml").read_text())
    with pytest.raises(loading.DatasetError, match=r"one\.yaml: one\.yml lies beside it, .* remove one"):
        loading.load(tmp_path / "one.yaml")
    with pytest.raises(loading.DatasetError, match=r"one\.yml: one\.yaml lies beside it"):
        loading.load(tmp_path / "one.yml")
