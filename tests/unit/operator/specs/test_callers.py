"""Who may call an agent: what an API key and a list of namespaces change in its objects, and that nothing changes without them."""

import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from subterra_api.digest import sha256, short
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, ServingSettings
from subterra_jobs.evaluate.analysis.served import key_guard
from subterra_operator.decide.unrunnable import serving_problems
from subterra_operator.labels import CALLERS_LABEL
from subterra_operator.resources import Object
from subterra_operator.settings import NetworkSettings, Settings
from subterra_operator.specs.deployment import ServingTarget, deployment, version_of
from subterra_operator.specs.pod import CONTAINER_SECURITY
from subterra_operator.specs.traffic import api_key
from subterra_operator.specs.traffic.network_policy import callers_policy, network_policies
from subterra_operator.specs.vllm_container import Model
from subterra_testkit.cluster import kubernetes_objects as make

TARGET = ServingTarget(Model("models/abc", "travel"), "sha256:" + "a" * 64, "travel-1", 6.5, "reports/abc")
KEY = {"apiKeySecret": {"name": "travel-key"}}
FROM_SECRET = {"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "travel-key", "key": "apiKey"}}}


def template(serving: Object | None = None, **spec: Any) -> Object:
    """The pod template of an agent."""
    agent = make.agent(serving=serving or {}, **spec)
    built = deployment(agent, CompiledAgentSpec.model_validate(agent["spec"]), TARGET, Settings(), make.NOW)
    found: Object = built["spec"]["template"]
    return found


def named(pod: Object, name: str) -> Object:
    return next(each for each in (*pod["initContainers"], *pod["containers"]) if each["name"] == name)


def version(serving: Object) -> str:
    return version_of(TARGET, ServingSettings.model_validate(serving))


def test_an_agent_without_key_and_callers_keeps_its_version_and_its_pods() -> None:
    assert version({}) == short(sha256([TARGET.digest, TARGET.model.path, {}])), "as in releases that knew neither"
    plain, guarded = template(), template(KEY)
    assert not any(word in json.dumps(plain) for word in ("api-key", "API_KEY", "key_guard", CALLERS_LABEL))
    pod = guarded["spec"]
    pod["initContainers"] = [each for each in pod["initContainers"] if each["name"] != "api-key"]
    pod["volumes"] = [each for each in pod["volumes"] if each["name"] != "recorder"]
    vllm = named(pod, "vllm")
    vllm["command"], vllm["env"] = vllm["command"][:-2], [each for each in vllm["env"] if each != FROM_SECRET]
    vllm["volumeMounts"] = [each for each in vllm["volumeMounts"] if each["name"] != "recorder"]
    del vllm["workingDir"]
    assert pod == plain["spec"]


def test_the_key_comes_from_the_secret_and_is_no_argument() -> None:
    pod = template(KEY)["spec"]
    vllm, check = named(pod, "vllm"), named(pod, "api-key")
    assert FROM_SECRET in vllm["env"] and FROM_SECRET in check["env"]
    assert "--api-key" not in vllm["command"]
    assert vllm["command"][-2:] == ["--middleware", "subterra_key_guard.Guard"]
    mount = next(each for each in vllm["volumeMounts"] if each["mountPath"] == vllm["workingDir"])
    assert mount["readOnly"] and {"name": mount["name"], "emptyDir": {"sizeLimit": "1Mi"}} in pod["volumes"]
    assert check["securityContext"] == CONTAINER_SECURITY
    others = [each for each in (*pod["initContainers"], *pod["containers"]) if each["name"] not in ("vllm", "api-key")]
    assert "travel-key" not in json.dumps(others), "nobody else gets it"


def test_a_missing_secret_is_known_before_a_large_model_is_verified() -> None:
    assert [each["name"] for each in template(KEY)["spec"]["initContainers"]][:2] == ["api-key", "verify"]


def test_key_and_monitoring_share_the_folder_and_the_guard_is_outermost() -> None:
    pod = template(KEY, monitoring={})["spec"]
    vllm = named(pod, "vllm")
    assert vllm["command"][-4:] == ["--middleware", "subterra_recorder.Recorder", "--middleware", "subterra_key_guard.Guard"]
    names = [volume["name"] for volume in pod["volumes"]]
    paths = [mount["mountPath"] for mount in vllm["volumeMounts"]]
    assert (len(names), len(paths)) == (len(set(names)), len(set(paths)))
    assert [each["name"] for each in pod["initContainers"]] == ["api-key", "verify", "recorder", "exporter", "monitor"]


def test_the_operator_names_the_guard_as_the_stages_image_has_it() -> None:
    names = (key_guard.MODULE, key_guard.KEY_VARIABLE, key_guard.__name__)
    assert names == (api_key.GUARD_MODULE, api_key.KEY_VARIABLE, api_key.PROGRAM)


def test_probes_and_the_hook_that_ends_a_pod_ask_for_open_paths_only() -> None:
    vllm = named(template(KEY)["spec"], "vllm")
    hook = next(part for part in vllm["lifecycle"]["preStop"]["exec"]["command"] if part.startswith("http"))
    probed = {vllm[probe]["httpGet"]["path"] for probe in vllm if probe.endswith("Probe")}
    assert probed | {urlsplit(hook).path} <= set(key_guard.OPEN)


def test_another_secret_is_another_version_so_the_old_key_holds_until_traffic_moves() -> None:
    keys = [{}, KEY, {"apiKeySecret": {"name": "travel-key", "key": "second"}}, {"apiKeySecret": {"name": "other"}}]
    assert len({version(each) for each in keys}) == len(keys)


def test_naming_callers_makes_a_version_once_and_another_list_does_not() -> None:
    none, one, two = ({}, {"allowedNamespaces": ["shop"]}, {"allowedNamespaces": ["shop", "web"]})
    assert version(one) == version(two) != version(none)
    assert template(one) == template(two)
    assert template(one)["metadata"]["labels"].keys() - template(none)["metadata"]["labels"].keys() == {CALLERS_LABEL}
    assert template(one)["spec"] == template(none)["spec"]


def test_only_listed_namespaces_reach_a_pod_that_has_callers() -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in network_policies("demo", Settings())}
    [anybody] = policies["subterra-serving"]["podSelector"]["matchExpressions"]
    assert anybody == {"key": CALLERS_LABEL, "operator": "NotIn", "values": ["listed"]}, "policies add up, so it leaves the pod out"
    policy = callers_policy(make.agent(), ["web", "shop", "web"])
    labels = template({"allowedNamespaces": ["shop", "web"]})["metadata"]["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    [rule] = policy["spec"]["ingress"]
    [peer] = rule["from"]
    [names] = peer["namespaceSelector"]["matchExpressions"]
    assert (rule["ports"], names["values"]) == ([{"protocol": "TCP", "port": 8000}], ["shop", "web"])
    assert policy["metadata"]["ownerReferences"][0]["name"] == "travel", "it goes with the agent"


def test_callers_without_network_policies_are_refused_with_the_fix() -> None:
    listed, off = ServingSettings(allowed_namespaces=("shop",)), Settings(network=NetworkSettings(enabled=False))
    [problem] = serving_problems(listed, off)
    assert problem.startswith("spec.serving.allowedNamespaces has no effect, since networkPolicies.enabled in the chart's values")
    assert [*serving_problems(listed, Settings())] == [*serving_problems(ServingSettings(), off)] == []


@pytest.mark.parametrize("listed", [[], ["Shop"], ["-shop"], ["a" * 64], ["*"]])
def test_what_is_no_namespace_is_refused(listed: list[str]) -> None:
    with pytest.raises(ValueError, match="allowedNamespaces"):
        ServingSettings.model_validate({"allowedNamespaces": listed})
