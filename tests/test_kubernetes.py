"""The manifests for Kubernetes: right by the API's schema, KubeRay's fields and the command line's own options."""

from __future__ import annotations

import copy
import os
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from tulu_eval.cli import cli

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
JOB, MERGE, RAY_JOB = "kubernetes_job.yaml", "kubernetes_merge.yaml", "kuberay_job.yaml"
VERSION = "1.33"
"""The release in which ``backoffLimitPerIndex`` became stable."""

# Facts of ray-project/kuberay at tag v1.7.0, 59d663aeec13760646da3db9c1cf8cfe883e30b7, ray-operator/config/crd/bases/
# ray.io_rayjobs.yaml, version v1: fields that may be there with their types, and those that must.
SPEC = {"entrypoint": str, "shutdownAfterJobFinishes": bool, "ttlSecondsAfterFinished": int, "backoffLimit": int,
        "activeDeadlineSeconds": int, "runtimeEnvYAML": str, "rayClusterSpec": dict, "suspend": bool}  # fmt: skip
CLUSTER = {
    "rayVersion": str,
    "authOptions": dict,
    "headGroupSpec": dict,
    "workerGroupSpecs": list,
    "gcsFaultToleranceOptions": dict,
}
AUTH = {"mode": str, "enableK8sTokenAuth": bool, "secretName": str}
HEAD = {"rayStartParams": dict, "template": dict, "labels": dict, "resources": dict, "serviceType": str}
WORKERS = {"groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int, "numOfHosts": int, "rayStartParams": dict,
           "template": dict, "labels": dict, "resources": dict}  # fmt: skip
REQUIRED = {
    "cluster": {"headGroupSpec"},
    "head": {"template"},
    "workers": {"groupName", "maxReplicas", "minReplicas", "template"},
}


@pytest.fixture
def kubernetes() -> Any:
    return pytest.importorskip("kubernetes_validate", reason="needs the package kubernetes-validate")


def manifest(name: str) -> dict[str, Any]:
    found = yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def pods(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns all pods of a Job or RayJob."""
    spec = found["spec"]
    if found["kind"] == "Job":
        return [spec["template"]["spec"]]
    groups = [spec["rayClusterSpec"]["headGroupSpec"], *spec["rayClusterSpec"]["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def check_fields(found: dict[str, Any], fields: dict[str, type], required: set[str] | frozenset[str] = frozenset()) -> None:
    """Raises ValueError if a field is not there, has another type, or is missing."""
    for name, value in found.items():
        if name not in fields or type(value) is not fields[name]:
            raise ValueError(f"{name}: {value!r}")
    if absent := required - set(found):
        raise ValueError(f"missing: {absent}")


def check_ray_job(found: dict[str, Any], kubernetes: Any) -> None:
    """Raises ValueError, or a ValidationError of a pod's template, if a RayJob is not as KubeRay and Kubernetes say."""
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", "RayJob")
    check_fields(found["spec"], SPEC)
    cluster = found["spec"]["rayClusterSpec"]
    check_fields(cluster, CLUSTER, REQUIRED["cluster"])
    check_fields(cluster["authOptions"], AUTH)
    check_fields(cluster["headGroupSpec"], HEAD, REQUIRED["head"])
    for group in cluster["workerGroupSpecs"]:
        check_fields(group, WORKERS, REQUIRED["workers"])
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        check_fields(group["rayStartParams"], dict.fromkeys(group["rayStartParams"], str))
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": group["template"]}
        kubernetes.validate(pod, VERSION, strict=True)


def words_of(script: str, folder: Path, **variables: str) -> list[str]:
    """Returns what a shell gives to ``tulu-eval`` where it runs a script."""
    program = folder / "tulu-eval"
    program.write_text("#!/bin/sh\nfor word; do printf '%s\\0' \"$word\"; done\n")
    program.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", **variables}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


def parsed(words: list[str]) -> dict[str, Any]:
    """Returns the values of a verb's parameters; raises click.UsageError if it has no such option."""
    with click.Context(cli) as context:
        verb, command, rest = cli.resolve_command(context, words)
        assert command is not None
        return command.make_context(verb, rest, parent=context).params


@pytest.mark.parametrize("name", [JOB, MERGE])
def test_a_job_is_right_by_the_schema(name: str, kubernetes: Any) -> None:
    kubernetes.validate(manifest(name), VERSION, strict=True)


@pytest.mark.parametrize("wrong", [{"completionMod": "Indexed"}, {"completions": "seven"}, {"podFailurePolicy": {}}])
def test_the_schema_sees_a_wrong_job(wrong: dict[str, Any], kubernetes: Any) -> None:
    found = manifest(JOB)
    found["spec"] |= wrong
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate(found, VERSION, strict=True)


def test_a_ray_job_has_the_fields_of_kuberay(kubernetes: Any) -> None:
    check_ray_job(manifest(RAY_JOB), kubernetes)


def test_a_wrong_ray_job_is_seen(kubernetes: Any) -> None:
    right = manifest(RAY_JOB)
    changes: list[tuple[tuple[str | int, ...], str, Any]] = [
        (("spec",), "entryPoint", "x"),
        (("spec",), "backoffLimit", "3"),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams"), "num-cpus", 0),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0), "minReplicas", None),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec"), "volume", []),
    ]
    for path, key, value in changes:
        wrong = copy.deepcopy(right)
        place: Any = wrong
        for step in path:
            place = place[step]
        place[key] = value
        with pytest.raises((ValueError, kubernetes.ValidationError)):
            check_ray_job(wrong, kubernetes)


def test_each_pod_of_the_job_runs_its_shard(tmp_path: Path) -> None:
    spec = manifest(JOB)["spec"]
    (pod,) = pods(manifest(JOB))[0]["containers"]
    shards, outputs = [], set()
    for index in range(spec["completions"]):
        values = parsed(words_of(pod["args"][0], tmp_path, JOB_COMPLETION_INDEX=str(index)))
        shards.append(values["shard"])
        outputs.add(str(values["output"]))
    assert shards == [f"{index + 1}/7" for index in range(7)]
    assert spec["parallelism"] == spec["completions"]
    assert outputs == {"/shared/results"}
    assert spec["podFailurePolicy"]["rules"][1]["onExitCodes"]["containerName"] == pod["name"]


def test_the_merge_takes_what_the_shards_wrote(tmp_path: Path) -> None:
    (pod,), (shard,) = (pods(manifest(name))[0]["containers"] for name in (MERGE, JOB))
    words = words_of(pod["args"][0], tmp_path)
    assert parsed(words)
    ran = parsed(words_of(shard["args"][0], tmp_path, JOB_COMPLETION_INDEX="0"))
    (model,) = ran["model"]
    assert words[1] == f"{ran['output']}/{model.replace('/', '__')}/{ran['benchmarks'][0]}/{ran['protocol']}-*"


def test_the_ray_job_runs_on_its_own_cluster(tmp_path: Path) -> None:
    values = parsed(words_of(manifest(RAY_JOB)["spec"]["entrypoint"], tmp_path, RAY_ADDRESS="10.0.0.7:6379"))
    assert values["cluster"] == "10.0.0.7:6379"
    assert values["tensor_parallel"] == 4


@pytest.mark.parametrize("name", [JOB, MERGE, RAY_JOB])
def test_every_volume_that_is_mounted_is_there(name: str) -> None:
    found = manifest(name)
    for pod in pods(found):
        there = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for one in pod["containers"] for mount in one["volumeMounts"]} == there
