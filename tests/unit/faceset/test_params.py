"""Run params: the right ones pass, the others are refused with the list of the right ones."""

from pathlib import Path

import pytest

from include.faceset import params
from tests.unit.faceset.pipeline import make_dataset


def test_defaults_are_the_datasets(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, min_images=3, shards=5)
    checked = params.check({}, dataset)
    assert (checked.min_images, checked.shards, checked.output) == (3, 5, dataset.output)
    assert (checked.link_mode, checked.decode, checked.skip_upload, checked.dry_run) == ("clone", "full", False, False)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_imgs": 3}, "unknown param 'min_imgs'"),
        ({"min_images": "3"}, "param 'min_images': .*given: '3'"),
        ({"min_images": 0}, "param 'min_images'"),
        ({"min_images": -1}, "param 'min_images'"),
        ({"min_images": True}, "param 'min_images'"),
        ({"shards": 513}, "param 'shards'"),
        ({"link_mode": "symlink"}, "param 'link_mode'"),
        ({"max_delete_fraction": 1.5}, "param 'max_delete_fraction'"),
        ({"skip_upload": "yes"}, "param 'skip_upload'"),
        ({"output": "merged"}, "param 'output'"),
        ({"destination": "s3://bucket/"}, "param 'destination'"),
        ({"destination": "https://bucket/set/"}, "param 'destination'"),
    ],
)
def test_a_wrong_param_is_refused_with_the_list_of_the_right_ones(
    tmp_path: Path, values: dict[str, object], message: str
) -> None:
    with pytest.raises(params.ParamsError, match=message) as refused:
        params.check(values, make_dataset(tmp_path))
    for name in params.RunParams.model_fields:
        assert name in str(refused.value)


def test_every_param_explains_itself_in_the_form() -> None:
    for name, schema in params.schemas().items():
        assert schema["title"], name
        assert len(schema["description"]) > 20, name
        assert "type" in schema, name


@pytest.mark.parametrize(
    ("export", "partition", "message"),
    [
        ({}, "2026-05-01", "no export of this dataset arrives in parts"),
        ({"root": "a/{partition}"}, "05/01/2026", "is no part's name; write it as 2026-05-01"),
        ({"root": "a/{partition}"}, "../2026-05-01", "is no part's name"),
    ],
)
def test_a_partition_must_be_one(tmp_path: Path, export: dict[str, str], partition: str, message: str) -> None:
    dataset = make_dataset(tmp_path, [{"name": "a", "layout": "image_folder", **export}])
    with pytest.raises(params.ParamsError, match=message):
        params.check({"partition": partition}, dataset)


def test_a_release_is_named_by_its_id(tmp_path: Path) -> None:
    with pytest.raises(params.ParamsError, match="param 'release'"):
        params.check({"release": "../../etc"}, make_dataset(tmp_path))
