"""Run params: the right ones pass, the others are refused with the list of the right ones."""

import re
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Param
from airflow.sdk.exceptions import ParamValidationError
from hypothesis import example, given
from hypothesis import strategies as st

from include.faceset.declared import params
from include.faceset.declared.dataset import Dataset
from include.faceset.declared.partition_pattern import partition_pattern
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


KINDS: dict[str, dict[str, Any]] = {
    "on disk": {},
    "in parts": {"exports": [{"name": "a", "layout": "image_folder", "root": "a/{partition}"}]},
    "in parts of months": {
        "exports": [{"name": "a", "layout": "image_folder", "root": "a/{partition}"}],
        "partition_format": "%Y%m%d",
    },
    "in S3": {
        "exports": [{"name": "a", "layout": "image_folder", "root": "s3://exports/a/"}],
        "local_source": None,
        "output": None,
        "releases": "/data/releases",
    },
}
ODD: list[Any] = [
    *(3.0, 3, True, "3", None, 3.5, -0.0, 0.0, 0, 1, 1.0, 1e300, 10**30, -(10**30), float("nan"), float("inf")),
    *([], {}, [3], "", " ", "٣", "/data", "/data/", "/data\n", " /data", "/\ud800", "/\0", "s3://bucket/set/"),
    *("s3://bucket/set/\n", "s3://bucket/./set/", "s3://bucket/../set/", "s3://bucket/a\nb/", "s3://bucket/\ud800/"),
    *("0123456789abcdef", "0123456789abcdef\n", "0123456789ABCDEF", "２０２６-05-01", "2026-05-01", "2026-05-01\n"),
    *("2026-5-1", "2026-02-30", "2025-02-29", "2024-02-29", "20260431", "0999-01-01", "clone", "Clone", "full", "off "),
]
TEXTS = st.one_of(
    st.text(st.characters(), max_size=12),
    st.from_regex(r"\A[0-9]{4}-?[0-3][0-9]-?[0-3][0-9]\n?\Z"),
    st.from_regex(r"\A/?[a-z/. ]{0,9}\n?\Z"),
    st.from_regex(r"\As3://[a-z.]{0,9}/[a-z/. \r\n]{0,9}\Z"),
    st.from_regex(r"\A[0-9a-f]{15,17}\n?\Z"),
)
VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.floats(0, 1), TEXTS, st.sampled_from(ODD))


@cache
def of_kind(kind: str) -> tuple[Dataset, dict[str, dict[str, Any]]]:
    dataset = make_dataset(Path("/data"), **KINDS[kind])
    return dataset, params.schemas(dataset)


def accepted_at_trigger(value: object, schema: dict[str, Any]) -> bool:
    """Whether Airflow takes the value, by the form, the API or the command line."""
    try:
        Param(value, **schema).resolve()
    except ParamValidationError:
        return False
    return True


def accepted_by_the_run(name: str, value: object, dataset: Dataset) -> bool:
    try:
        checked = getattr(params.check({name: value}, dataset), name)
    except params.ParamsError:
        return False
    assert checked == value  # it means what was given
    assert not isinstance(checked, float) or name == "max_delete_fraction"  # 3.0 is 3
    return True


def agree(kind: str, name: str, value: object) -> None:
    dataset, schemas = of_kind(kind)
    if name == "skip_upload" and dataset.output is None and value is True:
        return  # right by itself; the run says that there would be nothing left to do
    assert accepted_at_trigger(value, schemas[name]) == accepted_by_the_run(name, value, dataset), (kind, name, value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", params.RunParams.model_fields)
def test_what_airflow_takes_at_the_trigger_the_run_takes_and_nothing_else(kind: str, name: str) -> None:
    for value in ODD:
        agree(kind, name, value)


@pytest.mark.long
@given(kind=st.sampled_from(sorted(KINDS)), name=st.sampled_from(sorted(params.RunParams.model_fields)), value=VALUES)
def test_so_it_is_with_any_value(kind: str, name: str, value: object) -> None:
    agree(kind, name, value)


def test_a_number_may_be_written_in_any_way_of_json() -> None:
    dataset = make_dataset(Path("/data"))
    for written in (3, 3.0, 3e0):
        checked = params.check({"min_images": written, "shards": written}, dataset)
        assert (repr(checked.min_images), repr(checked.shards)) == ("3", "3")
    assert params.check({"max_delete_fraction": 1}, dataset).max_delete_fraction == 1


@pytest.mark.long
@pytest.mark.parametrize("form", ["%Y-%m-%d", "%Y%m%d", "%Y.%m_%d", "%Y-%j", "%y%m%d", "%Y-%m-%dT%H"])
@given(text=st.from_regex(r"\A[0-9]{2,4}[-._]?[0-3][0-9]{1,2}[-._]?[0-3]?[0-9]?(T[0-2][0-9])?\n?\Z"), day=st.dates())
@example(text="2100-366", day=date(2100, 2, 28))
def test_a_part_is_named_by_a_day_that_the_calendar_has(form: str, text: str, day: date) -> None:
    dataset = make_dataset(Path("/data"), partition_format=form)
    for name in (text, day.strftime(form)):
        assert bool(re.search(partition_pattern(form), name)) == dataset.is_partition(name), name
