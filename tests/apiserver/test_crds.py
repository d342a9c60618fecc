"""The CRDs as the API server understands them: what is refused, and with which words."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from subterra_operator.kube.api_client import ApiError
from subterra_operator.resources import Object
from subterra_testkit.cluster.kubernetes_objects import ROOT, TRAVEL, TRAVEL_DIGEST
from subterra_testkit.cluster.operator_namespace import ClusterNamespace

MODEL = {"uri": "pvc://models/1", "digest": TRAVEL_DIGEST}


def ours(kind: str, name: str, **spec: Any) -> Object:
    """A bare resource."""
    return {"apiVersion": "subterra.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def without_start() -> Object:
    spec = copy.deepcopy(TRAVEL["spec"])
    return {**TRAVEL, "spec": {**spec, "start": "elsewhere"}}


def twice_the_same_node() -> Object:
    spec = copy.deepcopy(TRAVEL["spec"])
    return {**TRAVEL, "spec": {**spec, "nodes": [*spec["nodes"], spec["nodes"][0]]}}


def placed(**settings: Any) -> Object:
    """A run whose train stage has these pod settings."""
    return ours("CompileRun", "travel", inputs={"procedureRef": {"name": "travel"}}, execution={"train": settings})


def tolerating(**toleration: Any) -> Object:
    """A run whose train stage has this toleration."""
    return placed(tolerations=[toleration])


JUDGE = {"evaluation": {"judge": {"name": "anthropic"}}}
TEACHER = {"generation": {"teacher": {"name": "anthropic"}}}
REFUSED = [
    (without_start(), "spec.start is not the id of a node: set it to the id of one of spec.nodes"),
    (twice_the_same_node(), "Duplicate value"),
    (ours("CompiledAgent", "travel"), "set exactly one of spec.compile"),
    (ours("CompiledAgent", "travel", compile={"procedureRef": {"name": "travel"}}, model=MODEL), "set exactly one of spec.compile"),
    (ours("CompiledAgent", "t" * 41, model=MODEL), "at most 40 characters"),
    (ours("CompiledAgent", "1travel", model=MODEL), "starting with a letter"),
    (ours("CompileRun", "travel", inputs={"procedureRef": {"name": "travel"}, **TEACHER}), "every provider except scripted needs"),
    (ours("CompileRun", "travel", inputs={"procedureRef": {"name": "travel"}, **JUDGE}), "every provider except scripted needs"),
    (tolerating(key="gpu", operator="Bogus"), 'tolerations\\[0\\].operator: Unsupported value: "Bogus"'),
    (tolerating(foo="bar"), "key is missing: name the taint's key, or set operator to Exists"),
    (tolerating(key="gpu", effect="Never"), 'effect: Unsupported value: "Never"'),
    (tolerating(key="gpu", operator="Exists", value="a"), "value must be left out when operator is Exists"),
    (tolerating(key="gpu", tolerationSeconds=5), "tolerationSeconds needs effect NoExecute"),
    (tolerating(key="no such key!"), "key in body should match"),
    (placed(resources={"requests": {"cpu": 2}, "limits": {"cpu": "1500m"}}), "a request is larger than the limit"),
    (placed(resources={"requests": {"gpu": 1}}), "unknown resource: use cpu, memory"),
    (placed(resources={"limits": {"gpu": 1}}), "unknown resource: use cpu, memory"),
    (
        ours("CompileRun", "travel", inputs={"procedureRef": {"name": "travel"}}, execution={"queueName": "no such queue!"}),
        "queueName must be the name of a LocalQueue",
    ),
    (ours("CompiledAgent", "travel", model=MODEL, serving={"tolerations": [{"operator": "Bogus"}]}), "Unsupported value"),
    (ours("CompileRun", "t" * 50, inputs={"procedureRef": {"name": "travel"}}), "at most 49 characters"),
]


@pytest.mark.parametrize(("bad", "words"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
async def test_a_bad_object_is_refused_with_the_cure(quiet: ClusterNamespace, bad: Object, words: str) -> None:
    with pytest.raises(ApiError, match=words):
        await quiet.put(bad)


@pytest.mark.parametrize(
    "toleration",
    [
        {"operator": "Exists"},
        {"key": "gpu"},
        {"key": "nvidia.com/gpu", "operator": "Equal", "value": "", "effect": ""},
        {"key": "a", "operator": "", "value": "b_c.d", "effect": "NoExecute", "tolerationSeconds": -1},
        {"key": "cores", "operator": "Gt", "value": "4"},
        {"key": "gpu", "operator": "Exists", "unknown": "kept"},
    ],
    ids=str,
)
async def test_a_toleration_that_a_pod_may_have_is_stored_as_it_is_written(quiet: ClusterNamespace, toleration: Object) -> None:
    stored = await quiet.put(tolerating(**toleration))
    assert stored["spec"]["execution"]["train"]["tolerations"] == [toleration]


async def test_requests_up_to_the_limit_are_accepted_in_any_unit(quiet: ClusterNamespace) -> None:
    requests = {"cpu": "1500m", "memory": "1024Mi", "nvidia.com/gpu": 1, "hugepages-2Mi": "4Mi"}
    limits = {"cpu": "1.5", "memory": "1Gi", "nvidia.com/gpu": "1", "hugepages-2Mi": "4Mi"}
    await quiet.put(placed(resources={"requests": requests, "limits": limits}))


async def test_the_customers_role_may_be_spelt_customer_or_user(quiet: ClusterNamespace) -> None:
    for spelling in ("customer", "user"):
        nodes = [node | ({"role": spelling} if node["role"] != "agent" else {}) for node in TRAVEL["spec"]["nodes"]]
        await quiet.put({**TRAVEL, "metadata": {"name": spelling}, "spec": {**TRAVEL["spec"], "nodes": nodes}})


async def test_the_inputs_of_a_run_cannot_be_changed_its_execution_can(quiet: ClusterNamespace) -> None:
    run = ours("CompileRun", "travel", inputs={"procedureRef": {"name": "travel"}})
    await quiet.put(run)
    await quiet.change({**run, "spec": {"execution": {"suspend": True, "train": {"resources": {"requests": {"cpu": 2}}}}}})
    with pytest.raises(ApiError, match="immutable"):
        await quiet.change({**run, "spec": {"inputs": {"procedureRef": {"name": "other"}}}})


async def test_references_and_attempt_of_a_run_cannot_be_changed(quiet: ClusterNamespace) -> None:
    inputs = {"procedureRef": {"name": "travel"}}
    reference = {"role": "Serving", "run": "travel-0", "modelDigest": TRAVEL_DIGEST, "modelPath": "models/0"}
    run = ours("CompileRun", "compared", inputs=inputs, references=[reference], attempt=2)
    await quiet.put(run)
    await quiet.change({**run, "spec": {"references": [reference], "attempt": 2}})
    for change in ({"references": []}, {"references": None}, {"attempt": 1}, {"attempt": None}):
        with pytest.raises(ApiError, match=r"spec\.references and spec\.attempt are immutable"):
            await quiet.change({**run, "spec": change})
    plain = ours("CompileRun", "plain", inputs=inputs)
    await quiet.put(plain)
    with pytest.raises(ApiError, match=r"spec\.references and spec\.attempt are immutable"):
        await quiet.change({**plain, "spec": {"references": [reference]}})


@pytest.mark.parametrize(
    "new",
    [
        TRAVEL,
        ours("CompileRun", "travel", inputs={"procedureRef": {"name": "travel"}}),
        ours("CompiledAgent", "travel", compile={"procedureRef": {"name": "travel"}}),
    ],
    ids=lambda new: new["kind"],
)
async def test_tools_that_wait_do_not_take_a_new_object_for_finished(
    quiet: ClusterNamespace, kstatus: Callable[[Object], tuple[str, str]], new: Object
) -> None:
    assert kstatus(await quiet.put(new))[0] == "InProgress", "no operator has looked at it"


def examples() -> list[Object]:
    """All resources of ours in examples/."""
    texts = [path.read_text() for path in sorted((ROOT / "examples").rglob("*.yaml"))]
    found = [document for text in texts for document in yaml.safe_load_all(text)]
    return [document for document in found if str(document.get("apiVersion")).startswith("subterra.dev/")]


@pytest.mark.parametrize("example", examples(), ids=lambda example: f"{example['kind']} {example['metadata']['name']}")
async def test_every_example_is_accepted_as_it_is(quiet: ClusterNamespace, example: Object) -> None:
    stored, wanted = await quiet.put(example), copy.deepcopy(example["spec"])
    if example["kind"] == "CompiledAgent":
        wanted.setdefault("serving", {}).setdefault("replicas", 1)  # for autoscalers
    assert stored["spec"] == wanted, "the schema prunes or defaults something"
