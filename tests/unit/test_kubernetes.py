"""deploy/ as the Kubernetes client and Airflow's executor read it; no cluster is needed."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from kubernetes.client import ApiClient, models

from include.faceset.declared import loading
from include.faceset.run import workers

ROOT = Path(__file__).parents[2]
VALUES: dict[str, Any] = yaml.safe_load((ROOT / "deploy/values.yaml").read_text())
VOLUMES: list[dict[str, Any]] = list(yaml.safe_load_all((ROOT / "deploy/volumes.yaml").read_text()))
WORKERS: dict[str, Any] = VALUES["workers"]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
REFERENCE = loading.load(ROOT / "include/datasets/reidnet_v3.yaml")


def as_model(value: object, model: type) -> Any:
    """The value as an object of the client's; a field that is none of the model's would be lost in silence."""
    with ApiClient() as client:
        made = client._ApiClient__deserialize(value, model)  # type: ignore[attr-defined]
        assert client.sanitize_for_serialization(made) == value
    return made


def template() -> models.V1Pod:
    """The worker's pod, put together from the values as the chart's pod template does."""
    image = VALUES["images"]["airflow"]
    return models.V1Pod(
        api_version="v1",
        kind="Pod",
        metadata=models.V1ObjectMeta(name="template"),
        spec=models.V1PodSpec(
            restart_policy="Never",
            security_context=as_model(VALUES["securityContexts"]["pod"], models.V1PodSecurityContext),
            termination_grace_period_seconds=WORKERS["terminationGracePeriodSeconds"],
            volumes=[as_model(one, models.V1Volume) for one in WORKERS["extraVolumes"]],
            containers=[
                models.V1Container(
                    name="base",
                    image=f"{image['repository']}:{image['tag']}",
                    env=[as_model(one, models.V1EnvVar) for one in WORKERS["env"]],
                    resources=as_model(WORKERS["resources"], models.V1ResourceRequirements),
                    volume_mounts=[as_model(one, models.V1VolumeMount) for one in WORKERS["extraVolumeMounts"]],
                )
            ],
        ),
    )


def test_a_field_that_the_client_does_not_know_is_noticed() -> None:
    with pytest.raises(AssertionError):
        as_model({"name": "merged", "mountPath": "/data", "readonly": True}, models.V1VolumeMount)


def test_the_pod_of_a_task_has_the_volumes_where_the_datasets_look() -> None:
    pod = PodGenerator.construct_pod(
        dag_id="reidnet_v3",
        task_id="copy_shard",
        pod_id="reidnet-v3-copy-shard-1",
        try_number=1,
        kube_image="unused",
        date=datetime(2026, 1, 1, tzinfo=UTC),
        args=["python", "-m", "airflow.sdk.execution_time.execute_workload"],
        pod_override_object=None,  # no task asks for another pod than the others
        base_worker_pod=template(),
        namespace="airflow",
        scheduler_job_id="1",
        run_id="manual__1",
        map_index=3,
    )
    [container] = pod.spec.containers
    mounts = {mount.mount_path: mount for mount in container.volume_mounts}
    claims = {volume.name: volume.persistent_volume_claim for volume in pod.spec.volumes}
    assert set(claims) == {mount.name for mount in mounts.values()}
    exports, merged = mounts[REFERENCE.local_source], mounts[str(Path(REFERENCE.output).parent)]
    assert exports.read_only
    assert claims[exports.name].claim_name == "faceset-exports"
    assert not merged.read_only
    assert claims[merged.name].claim_name == "faceset-merged"
    assert mounts[{one.name: one.value for one in container.env}["TMPDIR"]].name == "scratch"
    assert pod.metadata.annotations["map_index"] == "3"
    assert pod.spec.security_context.run_as_user


@pytest.mark.parametrize("declared", VOLUMES, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_each_volume_is_what_the_api_takes(declared: dict[str, Any]) -> None:
    as_model(declared, getattr(models, f"V1{declared['kind']}"))


def test_the_claims_of_the_values_are_made_and_shared() -> None:
    claims = {one["metadata"]["name"]: one for one in VOLUMES if one["kind"] == "PersistentVolumeClaim"}
    volumes = {one["metadata"]["name"]: one for one in VOLUMES if one["kind"] == "PersistentVolume"}
    wanted = {one["persistentVolumeClaim"]["claimName"] for one in WORKERS["extraVolumes"] if "emptyDir" not in one}
    assert wanted == set(claims)
    for name, claim in claims.items():
        volume = volumes[claim["spec"]["volumeName"]]
        assert claim["spec"]["accessModes"] == volume["spec"]["accessModes"], name
        assert volume["spec"]["accessModes"][0] in {"ReadWriteMany", "ReadOnlyMany"}
        assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


def test_the_merged_volume_is_mounted_as_every_worker_asks_for() -> None:
    [volume] = [
        one for one in VOLUMES if one["kind"] == "PersistentVolume" and one["metadata"]["name"].endswith("merged")
    ]
    [actimeo] = [option for option in volume["spec"]["mountOptions"] if option.startswith("actimeo=")]
    assert int(actimeo.removeprefix("actimeo=")) <= workers.LATE_S


def test_a_lost_pod_is_as_a_lost_worker() -> None:
    as_compose = COMPOSE["x-airflow"]["environment"]
    for name, value in VALUES["config"]["scheduler"].items():
        assert as_compose[f"AIRFLOW__SCHEDULER__{name.upper()}"] == value or name == "task_queued_timeout"


def test_no_secret_is_in_the_values() -> None:
    assert all({"envName", "secretName", "secretKey"} == set(one) for one in VALUES["secret"])
    assert all(value is None or str(value).startswith("faceset-") for key, value in VALUES.items() if "Secret" in key)
