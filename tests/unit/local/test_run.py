"""What `make run` understands, and how it tells a person what a run does."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.airflow import progress
from local.airflow.answers import TaskInstance
from local.commands import run
from local.commands.run import Plan, UsageError, plan
from local.s3 import storage

BUCKET = "data-labeling.livereachmedia.com"
AWS = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret"}


def test_without_arguments_it_is_the_sample(tmp_path: Path) -> None:
    sample = tmp_path / "sample"
    conf = {"local_source": str(sample), "output": str(tmp_path / "merged")}
    assert plan({}, tmp_path) == Plan("reidnet_v3", conf, BUCKET, sample)


def test_arguments_become_params(tmp_path: Path) -> None:
    given_ = {
        "SOURCE": str(tmp_path),
        "OUTPUT": "merged",
        "DEST": "s3://bucket/a/set/",
        "PARAMS": '{"min_images": 3, "skip_upload": true}',
    }
    asked = plan(given_, tmp_path / "state")
    assert asked.conf == {
        "local_source": str(tmp_path),
        "output": str(Path.cwd() / "merged"),
        "destination": "s3://bucket/a/set/",
        "min_images": 3,
        "skip_upload": True,
    }
    assert (asked.bucket, asked.sample) == ("bucket", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"SOURCE": "/"}, "SOURCE and OUTPUT go together"),
        ({"OUTPUT": "/merged"}, "SOURCE and OUTPUT go together"),
        ({"SOURCE": "/no/such/exports", "OUTPUT": "/merged"}, "there is no folder /no/such/exports"),
        ({"DATASET": "reidnet_v9"}, "there are: .*reidnet_v3"),
        ({"PARAMS": "min_images=3"}, "is no JSON"),
        ({"PARAMS": "[3]"}, "an object is needed"),
        ({"PARAMS": '{"min_image": 3}'}, "unknown param 'min_image'"),
        ({"PARAMS": '{"min_image": 3}'}, r"min_images \(integer\)"),
        ({"PARAMS": '{"min_images": "3"}'}, "param 'min_images'"),
        ({"DEST": "bucket/prefix"}, "param 'destination'"),
        ({"DEST": "s3://b/p/", "PARAMS": '{"destination": "s3://b/q/"}'}, "say the same thing"),
    ],
)
def test_arguments_that_cannot_be_used(arguments: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        plan(arguments, tmp_path)


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"exports": ["s3"], "releases": "/kept"}, {}, None),
        ({"exports": ["s3"], "output": "/x"}, {}, "OUTPUT: faces needs it: make run DATASET=faces OUTPUT=/"),
        ({"exports": ["s3", "disk"], "releases": "/kept"}, {}, "SOURCE: faces needs it"),
        ({"exports": ["s3", "disk"], "releases": "/kept"}, {"SOURCE": "/usr"}, None),
        ({"exports": ["s3", "disk"], "output": "/x"}, {"SOURCE": "/usr"}, "SOURCE and OUTPUT go together"),
    ],
)
def test_a_dataset_in_s3_needs_no_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    arguments: dict[str, str],
    message: str | None,
) -> None:
    tree = {"layout": "image_folder"}
    named = {"s3": {"name": "a", "root": "s3://exports/a/", **tree}, "disk": {"name": "b", **tree}}
    declared = {"destination": "s3://bucket/set/", "local_source": "/data", **changes}
    declared["exports"] = [named[one] for one in changes["exports"]]
    (tmp_path / "faces.yaml").write_text(yaml.safe_dump(declared))
    monkeypatch.setattr(run, "DATASETS", tmp_path)
    asked = {"DATASET": "faces", **arguments}
    if message:
        with pytest.raises(UsageError, match=message):
            plan(asked, tmp_path)
    else:
        found = plan(asked, tmp_path)
        assert (found.bucket, found.export_buckets, found.sample) == ("bucket", ("exports",), None)


@pytest.mark.long
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_params_are_used_or_refused_with_a_message(text: str, tmp_path: Path) -> None:
    try:
        plan({"PARAMS": text}, tmp_path)
    except UsageError as error:
        assert str(error)  # noqa: PT017


def test_the_sample_stays_out_of_a_real_bucket(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="would publish the drawn sample"):
        plan(AWS, tmp_path)
    for allowed in (
        {"DEST": "s3://mine/sample/"},
        {"PARAMS": '{"skip_upload": true}'},
        {"PARAMS": '{"dry_run": true}'},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"},
    ):
        assert plan(AWS | allowed, tmp_path).sample == tmp_path / "sample"


FAR, NEAR = "https://s3.example", "http://127.0.0.1:9000"


@pytest.mark.parametrize(
    ("said", "near"),
    [
        ({"AWS_ENDPOINT_URL": FAR, "AWS_ENDPOINT_URL_S3": NEAR}, True),
        ({"AWS_ENDPOINT_URL": NEAR, "AWS_ENDPOINT_URL_S3": FAR}, False),
        ({"AWS_ENDPOINT_URL": NEAR, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, False),
        ({"AWS_ENDPOINT_URL": NEAR, "AIRFLOW_CONN_AWS_DEFAULT": f'{{"extra": {{"endpoint_url": "{FAR}"}}}}'}, False),
        ({"AWS_ENDPOINT_URL": FAR, "AIRFLOW_CONN_AWS_DEFAULT": f'{{"extra": {{"endpoint_url": "{NEAR}"}}}}'}, True),
        ({"AIRFLOW_CONN_AWS_DEFAULT": '{"extra": "{\\"endpoint_url\\": \\"http://localhost:9\\"}"}'}, True),
        (
            {
                "AIRFLOW_CONN_AWS_DEFAULT": f'{{"extra": {{"endpoint_url": "{NEAR}", "service_config":'
                f' {{"s3": {{"endpoint_url": "{FAR}"}}}}}}}}'
            },
            False,
        ),
        ({"AWS_ENDPOINT_URL": NEAR, "AIRFLOW_CONN_AWS_DEFAULT": '{"login": "me"}'}, True),
        ({"AWS_ENDPOINT_URL": NEAR, "AIRFLOW_CONN_AWS_DEFAULT": "{not readable"}, False),
        ({"AIRFLOW_CONN_AWS_DEFAULT": "aws://a:b@/?endpoint_url=http%3A%2F%2F127.0.0.1%3A9"}, True),
        (
            {
                "AWS_ENDPOINT_URL": NEAR,
                "AIRFLOW_CONN_AWS_DEFAULT": "aws://a:b@/?__extra__=%7B%22endpoint_url%22%3A%22https%3A%2F%2Fx%22%7D",
            },
            False,
        ),
        ({}, False),
    ],
)
def test_the_sample_goes_by_the_endpoint_that_is_really_used(said: dict[str, str], near: bool) -> None:
    assert storage.is_on_this_machine(said) == near


def test_whose_s3() -> None:
    assert storage.own({"PATH": "/bin", "AWS_CA_BUNDLE": "/ca.pem", "AWS_PROFILE": ""}) == []
    assert storage.own({"AWS_PROFILE": "labels"}) == ["AWS_PROFILE"]


def instance(task_id: str, state: str | None, map_index: int = -1, duration: float | None = None) -> TaskInstance:
    return TaskInstance(task_id, map_index, str(map_index), state, 1, duration)


def test_progress_is_one_line_a_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    log = tmp_path / "task.log"
    log.write_text('{"event": "first"}\n{"event": "640 of 800 files"}\n')
    shown = progress.Progress(lambda _: log, lambda one: f"{one.task_id}? http://here", clock=lambda: now[0])

    def look(*instances: TaskInstance, after: float) -> list[str]:
        now[0] += after
        shown.watch(list(instances))
        return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]

    assert look(instance("scan", None), after=1) == []
    assert look(instance("scan", "running"), after=1) == ["0:02 scan started"]
    assert look(instance("scan", "running"), after=1) == []
    shards = [instance("copy_shard", "success", 0, 2.5), instance("copy_shard", "running", 1)]
    assert look(instance("scan", "success", duration=1.04), *shards, after=60) == [
        "1:03 scan done in 1.0 s",
        "1:03 copy_shard 1/2 done in 2.5 s (0)",
    ]
    assert look(*shards, after=11) == ["1:14 copy_shard[1] … 640 of 800 files"]
    waiting = instance("approve_deletions", "awaiting_input")
    assert look(waiting, after=1) == ["1:15 approve_deletions WAITS FOR YOUR ANSWER: approve_deletions? http://here"]
    assert look(waiting, after=60) == []
    shards[1] = instance("copy_shard", "failed", 1, 3.0)
    assert look(*shards, instance("seal", "upstream_failed"), after=1) == [
        "2:16 copy_shard 2/2 FAILED in 3.0 s (1)",
        "2:16 seal not run",
    ]


def test_the_last_errors_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "task.log"
    detail = [{"exc_type": "ValueError", "exc_value": "no room on disk"}]
    log.write_text(
        "a bare print\n"
        + json.dumps({"event": "fine", "level": "info"})
        + "\n"
        + json.dumps({"event": "Task failed with exception", "level": "error", "error_detail": detail})
        + "\n"
    )
    assert progress.errors(log) == ["Task failed with exception\nValueError: no room on disk"]
    assert progress.last_event(log) == "Task failed with exception"
    assert progress.errors(tmp_path / "none.log") == []
