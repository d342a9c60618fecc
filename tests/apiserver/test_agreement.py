"""The models and the API server accept and refuse the same: what passes one passes the other.

Valid objects are changed in one or two places: something dropped, added, of another type, just out of bounds. The models must
say of each what the API server says. Rules over several fields are the models' too, or those of the procedure's checks.
"""

import asyncio
import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from subterra_api.crd import all_crds
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_api.v1alpha1.compilerun import CompileRunSpec
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.lint.analyse import analyse
from subterra_operator.kube.api_client import ApiError
from subterra_operator.resources import KINDS, Object
from subterra_testkit.cluster.kubernetes_objects import TRAVEL_DIGEST
from subterra_testkit.cluster.operator_namespace import ClusterNamespace

MODELS = {"Procedure": ProcedureSpec, "CompileRun": CompileRunSpec, "CompiledAgent": CompiledAgentSpec}
SCHEMAS = {
    crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for crd in all_crds()
}
LIMITED = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern", "enum")
POD = {
    "resources": {"requests": {"cpu": "500m", "nvidia.com/gpu": 1}, "limits": {"memory": "4Gi", "cpu": 1}},
    "nodeSelector": {"pool": "a100"},
    "podTemplate": {"labels": {"a": "b"}, "serviceAccountName": "s", "env": [{"name": "A", "value": "b"}]},
    "tolerations": [
        {"key": "gpu", "operator": "Exists"},
        {"key": "a.b/c", "operator": "Equal", "value": "x", "effect": "NoExecute", "tolerationSeconds": 5},
    ],
}
RUN = {
    "inputs": {
        "procedureRef": {"name": "travel"},
        "procedureDigest": TRAVEL_DIGEST,
        "baseModel": {"uri": "hf://org/model"},
        "generation": {"teacher": {"name": "anthropic", "model": "m"}, "conversations": 20, "seeds": [1, 2], "heldOutPercent": 10},
        "training": {"optimizer": "adamw", "learningRate": 0.001, "epochs": 2, "maxSteps": 9, "batchSize": 8, "zeroStage": 2},
        "evaluation": {
            "simulator": {"name": "scripted"},
            "judge": {"name": "anthropic", "model": "m"},
            "scenarios": 10,
            "seed": 7,
            "secondJudge": {"name": "openai", "model": "n"},
            "baselines": [{"kind": "InContext", "provider": {"name": "scripted"}}],
        },
    },
    "references": [{"role": "Anchor", "run": "r", "modelDigest": TRAVEL_DIGEST, "modelPath": "p", "baseModel": {"uri": "scratch"}}],
    "attempt": 2,
    "execution": {
        "suspend": False,
        "maxUSD": "1.50",
        "queueName": "q",
        "apiKeySecret": {"name": "s", "key": "k"},
        "train": {**POD, "activeDeadlineSeconds": 60, "ranks": 2},
        "gate": {"minScore": 3, "maxFailureRate": 0.5, "margin": 0.5},
        "apiKeySecrets": {"openai": {"name": "s"}},
    },
}
AGENT = {
    "compile": {
        "procedureRef": {"name": "travel"},
        "template": {"execution": RUN["execution"]},
        "trigger": "Manual",
        "suspend": True,
    },
    "promotion": {"mode": "Manual", "gate": {"minConformance": 1}, "pin": TRAVEL_DIGEST, "anchor": TRAVEL_DIGEST},
    "serving": {**POD, "replicas": 2, "port": 80, "args": ["--max-model-len=512"]},
    "budget": {"maxUSDPerRun": "25"},
    "cost": {"usdPerHour": "2.50"},
}
PROCEDURE = {
    "systemPrompt": "You help.",
    "start": "greet",
    "openers": ["Hi"],
    "variables": [
        {"name": "city", "values": ["Oslo"], "open": True},
        {"name": "nights", "type": "integer", "minimum": 1},
        {"name": "stay", "type": "dateRange", "from": "2027-01-01", "to": "2027-02-01", "formats": ["{start:%d %B}"]},
    ],
    "personas": [{"name": "calm", "weight": 2}],
    "knowledge": [{"id": "bags", "text": "One bag is free."}],
    "nodes": [
        {"id": "greet", "role": "agent", "prompt": "Greet.", "next": [{"to": "choice"}], "maxVisits": 1},
        {
            "id": "choice",
            "role": "user",
            "examples": ["Yes"],
            "next": [
                {"to": "end", "when": "yes", "weight": 2, "examples": ["Yes"], "guards": [{"hub": "choice", "took": ["end"]}]},
                {"to": "greet", "when": "no"},
            ],
        },
        {"id": "end", "role": "agent", "prompt": "Bye.", "outcome": "success"},
    ],
}
VALID: list[tuple[str, Object]] = [
    ("Procedure", PROCEDURE),
    ("CompileRun", RUN),
    ("CompiledAgent", AGENT),
    ("CompiledAgent", {"model": {"uri": "pvc://models/1", "digest": TRAVEL_DIGEST, "turnsPerConversation": 6.5}}),
]
JUNK = st.sampled_from(
    [None, True, 0, -1, 2.0, 1.5, "", "x", "2", "ä b", "1\n", 2**31, 2**63, [], ["x"], [None], {}, {"x": 1}, {"x": None}]
)

Place = tuple[str | int, ...]


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Every place inside a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield (*at, key)
        yield from places(child, (*at, key))


def schema_at(schema: Object, place: Place) -> Object:
    """The schema of a place."""
    for key in place:
        children = schema.get("properties", {})
        schema = schema.get("items", {}) if isinstance(key, int) else children.get(key) or schema.get("additionalProperties", {})
    return schema


def edges(schema: Object, value: Any) -> list[Any]:
    """Values on both sides of every bound that a schema sets."""
    found: list[Any] = [*schema.get("enum", ()), "Other"]
    for bound in ("minimum", "maximum"):
        found += [schema[bound] + step for step in (-1, 0, 1) if bound in schema]
    for bound in ("minLength", "maxLength"):
        found += ["a" * max(0, schema[bound] + step) for step in (-1, 0, 1) if bound in schema]
    for bound in ("minItems", "maxItems"):
        if bound in schema and isinstance(value, list) and value and "x-kubernetes-list-map-keys" not in schema:
            found += [[value[0]] * max(0, schema[bound] + step) for step in (-1, 0, 1)]
    return found


@st.composite
def changed(draw: st.DrawFn) -> tuple[str, Object]:
    """A kind and a spec that was valid before it was changed in one or two places."""
    kind, valid = draw(st.sampled_from(VALID))
    spec = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.sampled_from(list(places(spec)) or [()]))
        if not place:
            continue
        parent = spec
        for key in place[:-1]:
            parent = parent[key]
        how, key = draw(st.sampled_from(["drop", "junk", "edge", "edge", "unknown", "twice", "snake"])), place[-1]
        if how == "drop":
            del parent[key]
        elif how == "edge":
            parent[key] = draw(st.sampled_from(edges(schema_at(SCHEMAS[kind], place), parent[key])))
        elif how == "twice" and isinstance(key, int):
            parent.append(copy.deepcopy(parent[key]))
        elif how == "unknown" and isinstance(key, str):
            parent["surprise"] = copy.deepcopy(draw(JUNK))
        elif how == "snake" and isinstance(key, str):
            parent["".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in key)] = parent.pop(key)
        else:
            parent[key] = copy.deepcopy(draw(JUNK))  # a second change must not reach the next case
    return kind, spec


def ours(kind: str, spec: Object) -> str:
    """What the models and the procedure's structural checks refuse; empty when nothing."""
    try:
        model = MODELS[kind].model_validate(spec)
    except ValidationError as error:
        return str(error)
    return "; ".join(duplicates_and_start(model)) if isinstance(model, ProcedureSpec) else ""


async def theirs(world: ClusterNamespace, kind: str, spec: Object) -> str:
    """What the API server refuses; empty when nothing."""
    obj = {
        "apiVersion": "subterra.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": "travel", "namespace": world.namespace},
        "spec": spec,
    }
    try:
        await world.api._call("POST", KINDS[kind].path(world.namespace), obj, query={"dryRun": "All", "fieldValidation": "Strict"})
    except ApiError as error:
        if error.code not in (400, 422):
            raise
        return str(error)
    return ""


def duplicates_and_start(spec: ProcedureSpec) -> list[str]:
    """The errors that the schema's list maps and rules know as well."""
    errors = analyse(spec, effort=100).errors
    return [str(error) for error in errors if "more than once" in error.problem or "spec.start: there is no node" in str(error)]


@settings(max_examples=600, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def agree(world: ClusterNamespace, ask: Any, data: st.DataObject) -> None:
    """Raises when the models and the API server differ."""
    kind, spec = data.draw(changed())
    here, there = ours(kind, spec), ask(theirs(world, kind, spec))
    assert bool(here) == bool(there), f"{kind}: the models say {here or 'yes'!r}, the API server says {there or 'yes'!r}"


async def test_models_and_api_server_accept_and_refuse_the_same(quiet: ClusterNamespace) -> None:
    loop = asyncio.get_running_loop()

    def ask(question: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(question, loop).result(30)

    await asyncio.to_thread(agree, quiet, ask)


@pytest.mark.parametrize(("kind", "spec"), VALID, ids=["Procedure", "CompileRun", "CompiledAgent", "CompiledAgent of a model"])
async def test_what_the_changes_start_from_is_valid_for_both(quiet: ClusterNamespace, kind: str, spec: Object) -> None:
    assert ours(kind, spec) == await theirs(quiet, kind, spec) == ""
