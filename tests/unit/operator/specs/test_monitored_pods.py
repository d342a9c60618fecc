"""What `spec.monitoring` adds to a serving pod, and that nothing changes without it."""

import json
from typing import Any

import pytest

from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, MonitoringSettings, ServingSettings
from subterra_jobs.evaluate.analysis.served import recorder
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.deployment import RECORDER_MODULE, VOLUME_LIMIT, ServingTarget, deployment, version_of
from subterra_operator.specs.pod import CONTAINER_SECURITY
from subterra_operator.specs.vllm_container import Model
from subterra_testkit.cluster import kubernetes_objects as make

TARGET = ServingTarget(Model("models/abc", "travel"), "sha256:" + "a" * 64, "travel-1", 6.5, "reports/abc")


def pod(monitoring: Any = None) -> Object:
    agent = make.agent(**({} if monitoring is None else {"monitoring": monitoring}))
    built = deployment(agent, CompiledAgentSpec.model_validate(agent["spec"]), TARGET, Settings(), make.NOW)
    template: Object = built["spec"]["template"]["spec"]
    return template


def named(of: Object, name: str) -> Object:
    return next(each for each in (*of["initContainers"], *of["containers"]) if each["name"] == name)


def variables(of: Object, name: str) -> dict[str, str]:
    return {each["name"]: each["value"] for each in named(of, name)["env"]}


def test_without_monitoring_a_pod_has_nothing_of_it() -> None:
    """What monitoring adds, taken away, leaves the very pod that agents without the field have."""
    watched, plain = pod({}), pod()
    assert not any(word in json.dumps(plain) for word in ("monitor", "recorder", 'served"', "RECORD"))
    added = {"recorder", "monitor", "served"}
    for kind in ("initContainers", "containers"):
        watched[kind] = [each for each in watched[kind] if each["name"] not in added]
    watched["volumes"] = [each for each in watched["volumes"] if each["name"] not in added]
    for each in (*watched["initContainers"], *watched["containers"]):
        each["volumeMounts"] = [mount for mount in each["volumeMounts"] if mount["name"] not in added]
        each["env"] = [one for one in each["env"] if "RECORD" not in one["name"] and "SERVED" not in one["name"]]
    vllm = named(watched, "vllm")
    vllm["command"] = vllm["command"][:-2]
    del vllm["workingDir"]
    assert watched == plain


def test_monitoring_makes_a_new_version_and_so_does_each_change_of_it() -> None:
    settings = [None, {}, {"sample": "All"}, {"keep": "Full"}, {"keepDays": 3}, {"maxRequestsPerHour": 10}]
    made = [MonitoringSettings.model_validate(each) if each is not None else None for each in settings]
    assert len({version_of(TARGET, ServingSettings(), each) for each in made}) == len(settings)


def test_vllm_gets_the_recorder_as_middleware_and_nothing_of_its_image_is_replaced() -> None:
    vllm, plain = named(pod({"sample": "All"}), "vllm"), named(pod(), "vllm")
    assert vllm["command"] == [*plain["command"], "--middleware", "subterra_recorder.Recorder"]
    assert {each["name"] for each in vllm["env"]} - {each["name"] for each in plain["env"]} == {
        recorder.FOLDER_VARIABLE,
        recorder.SAMPLE_VARIABLE,
        recorder.PER_HOUR_VARIABLE,
    }
    assert "PYTHONPATH" not in variables(pod({}), "vllm")
    assert vllm["workingDir"] in [mount["mountPath"] for mount in vllm["volumeMounts"] if mount.get("readOnly")]


def test_the_names_of_recorder_and_operator_agree() -> None:
    """The recorder cannot import them, since it is alone in its image."""
    assert f"{RECORDER_MODULE}.{recorder.Recorder.__name__}" == f"{recorder.MODULE}.Recorder"
    assert int(VOLUME_LIMIT.removesuffix("Mi")) * 2**20 > 4 * recorder.MAX_WAITING_BYTES


def test_the_recorders_file_is_there_before_vllm_starts_and_the_monitor_never_delays_it() -> None:
    watched = pod({})
    assert [each["name"] for each in watched["initContainers"]] == ["verify", "recorder", "exporter", "monitor"]
    assert "restartPolicy" not in named(watched, "recorder")
    monitor = named(watched, "monitor")
    assert monitor["restartPolicy"] == "Always"
    assert not {"startupProbe", "readinessProbe", "livenessProbe"} & monitor.keys()


def test_the_monitor_knows_where_procedure_and_evaluation_are_and_may_only_read_them() -> None:
    watched = pod({"keep": "Full", "keepDays": 3, "resources": {"limits": {"memory": "2Gi"}}})
    found = variables(watched, "monitor")
    assert (found["SUBTERRA_MODEL_PATH"], found["SUBTERRA_REPORT_PATH"]) == ("models/abc", "reports/abc")
    assert (found["SUBTERRA_MONITORING_KEEP"], found["SUBTERRA_MONITORING_DAYS"]) == ("Full", "3")
    monitor = named(watched, "monitor")
    assert monitor["resources"] == {"limits": {"memory": "2Gi"}}
    assert next(mount for mount in monitor["volumeMounts"] if mount["name"] == "store")["readOnly"]
    assert all(each["securityContext"] == CONTAINER_SECURITY for each in (*watched["initContainers"], *watched["containers"]))


def test_every_mount_has_its_volume() -> None:
    watched = pod({})
    volumes = {volume["name"] for volume in watched["volumes"]}
    used = {mount["name"] for each in (*watched["initContainers"], *watched["containers"]) for mount in each["volumeMounts"]}
    assert used <= volumes
    assert {"recorder", "served"} <= used


@pytest.mark.parametrize("field", ["sample", "keep"])
def test_other_words_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        MonitoringSettings.model_validate(json.loads(f'{{"{field}": "Some"}}'))
