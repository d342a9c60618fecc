"""CustomResourceDefinitions, and the page of their fields, from the models: `python -m subterra_api.crd` writes the files.

The API server defaults no spec field: a stored object holds only what its author wrote, so that its digest does not change when a
default does. An agent's replicas are the exception: without the field nothing could read its scale, and they are in no digest.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from subterra_api import reference_page
from subterra_api.file_generator import write_or_check
from subterra_api.v1alpha1 import GROUP, VERSION, pod_settings, pod_template
from subterra_api.v1alpha1.base import ApiModel
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, CompiledAgentStatus
from subterra_api.v1alpha1.compilerun import CompileRunSpec, CompileRunStatus
from subterra_api.v1alpha1.procedure import ProcedureSpec, ProcedureStatus

Schema = dict[str, Any]

BOUNDS = ("minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "maxProperties")
SCHEMA_KEYWORDS = ("type", "pattern", "format", "enum", *BOUNDS)
MAP_KEYS = {
    "nodes": "id",
    "anywhere": "to",
    "knowledge": "id",
    "variables": "name",
    "personas": "name",
    "tools": "name",
    "stages": "name",
    "conditions": "type",
}
"""Lists of type map, with their key: server-side apply merges by it, and it must be unique."""

Rule = tuple[str, str]
RULES: dict[str, tuple[Rule, ...]] = {
    **pod_settings.RULES,
    **pod_template.RULES,
    "ProcedureSpec": (
        (
            "self.nodes.exists(node, node.id == self.start)",
            "spec.start is not the id of a node: set it to the id of one of spec.nodes",
        ),
    ),
    "Provider": (
        (
            "!has(self.name) || self.name == 'scripted' || has(self.model)",
            "model is missing; every provider except scripted needs one",
        ),
    ),
    "CanarySettings": (
        (
            "!has(self.steps) || (self.steps.map(s, s.weight).isSorted() "
            "&& self.steps.all(s, self.steps.exists_one(o, o.weight == s.weight)))",
            "the weight of each step must be above that of the step before",
        ),
    ),
    "CompiledAgentSpec": (
        (
            "has(self.compile) != has(self.model)",
            "set exactly one of spec.compile (compile a procedure) and spec.model (serve a finished model)",
        ),
    ),
}
INPUTS_RULE = (
    "self == oldSelf",
    "spec.inputs is immutable: create another CompileRun, or edit the CompiledAgent, which creates one for you",
)
ORIGIN_RULE = (
    "has(self.references) == has(oldSelf.references) && (!has(self.references) || self.references == oldSelf.references) && "
    "has(self.attempt) == has(oldSelf.attempt) && (!has(self.attempt) || self.attempt == oldSelf.attempt)",
    "spec.references and spec.attempt are immutable: create another CompileRun",
)
REEVALUATES_RULE = (
    "has(self.reevaluates) == has(oldSelf.reevaluates) && (!has(self.reevaluates) || self.reevaluates == oldSelf.reevaluates)",
    "spec.reevaluates is immutable: create another CompileRun",
)
AGENT_NAME = "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
RUN_NAME = "self.metadata.name.size() <= 49 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
NAME_FIX = "lowercase letters, digits and hyphens, starting with a letter, since other objects are named after it"


def structural_schema(model: type[ApiModel]) -> Schema:
    """Structural OpenAPI v3 schema of a model: no references, no defaults, no unions with null."""
    schema = model.model_json_schema(by_alias=True)
    return _convert(schema, schema.get("$defs", {}))


def _convert(node: Mapping[str, Any], defs: Mapping[str, Any]) -> Schema:
    node = _resolve(node, defs)
    if {option.get("type") for option in node.get("anyOf", [])} - {"null"} == {"string", "integer"}:
        bounds = {
            key: value for option in node["anyOf"] for key, value in option.items() if key in SCHEMA_KEYWORDS and key != "type"
        }
        return _with_description(node, {"x-kubernetes-int-or-string": True, **bounds})
    result = _with_description(node, {key: node[key] for key in SCHEMA_KEYWORDS if key in node})
    if "const" in node:
        result["enum"] = [node["const"]]
    if "exclusiveMinimum" in node:
        result |= {"minimum": node["exclusiveMinimum"], "exclusiveMinimum": True}
    if result.get("type") == "array":
        result["items"] = _convert(node["items"], defs)
    if result.get("type") == "object":
        result |= _convert_object(node, defs)
    if rules := RULES.get(node.get("title", "")):
        result["x-kubernetes-validations"] = _rules(rules)
    return result


def _with_description(node: Mapping[str, Any], schema: Schema) -> Schema:
    return schema | ({"description": " ".join(node["description"].split())} if "description" in node else {})


def _resolve(node: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    """`node` with its reference resolved and null removed from its union; its own description wins."""
    if "$ref" in node:
        target = _resolve(defs[node["$ref"].rpartition("/")[2]], defs)
        return {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    options = [option for option in node.get("anyOf", []) if option.get("type") != "null"]
    if len(options) == 1:
        return {**_resolve(options[0], defs), **{key: value for key, value in node.items() if key not in ("anyOf", "title")}}
    return node


def _convert_object(node: Mapping[str, Any], defs: Mapping[str, Any]) -> Schema:
    if "properties" not in node:
        values = node.get("additionalProperties", True)
        if values is True:
            return {"x-kubernetes-preserve-unknown-fields": True}
        return {"additionalProperties": _convert(values, defs)}
    properties = {name: _convert(value, defs) for name, value in node["properties"].items()}
    for name, key in MAP_KEYS.items():
        if properties.get(name, {}).get("type") == "array":
            properties[name] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
    required = {"required": node["required"]} if node.get("required") else {}
    open_ended = {"x-kubernetes-preserve-unknown-fields": True} if node.get("additionalProperties") is True else {}
    return {"properties": properties, **required, **open_ended}


def _rules(rules: Sequence[Rule]) -> list[Schema]:
    return [{"rule": rule, "message": message} for rule, message in rules]


def _column(name: str, path: str, kind: str = "string", priority: int = 0) -> Schema:
    return {"name": name, "type": kind, "jsonPath": path} | ({"priority": priority} if priority else {})


def _condition(kind: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].status'


UNOBSERVED_STATUS = {"observedGeneration": -1}
"""Status before any operator has seen the object; without it, tools that wait would take a new object for finished."""
AGE = _column("Age", ".metadata.creationTimestamp", "date")


@dataclass(frozen=True)
class _Kind:
    name: str
    short_name: str
    description: str
    spec: Schema
    status: Schema
    columns: Sequence[Schema]
    rules: Sequence[Rule] = ()
    scale: Schema | None = None

    def crd(self) -> Schema:
        plural = self.name.lower() + "s"
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{GROUP}"},
            "spec": {"group": GROUP, "scope": "Namespaced", "names": self._names(plural), "versions": [self._version()]},
        }

    def _names(self, plural: str) -> Schema:
        return {
            "kind": self.name,
            "listKind": self.name + "List",
            "plural": plural,
            "singular": self.name.lower(),
            "shortNames": [self.short_name],
            "categories": ["subterra"],
        }

    def _version(self) -> Schema:
        return {
            "name": VERSION,
            "served": True,
            "storage": True,
            "schema": {"openAPIV3Schema": self._schema()},
            "subresources": {"status": {}} | ({"scale": self.scale} if self.scale else {}),
            "additionalPrinterColumns": [*self.columns, AGE],
        }

    def _schema(self) -> Schema:
        schema: Schema = {
            "type": "object",
            "description": self.description,
            "required": ["spec"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object"},
                "spec": self.spec,
                "status": self.status | {"default": UNOBSERVED_STATUS},
            },
        }
        return schema | ({"x-kubernetes-validations": _rules(self.rules)} if self.rules else {})


DESCRIPTIONS = {
    "Procedure": "A conversational flowchart that can be compiled into the weights of a small model.",
    "CompileRun": "One compilation of one procedure: synthetic conversations, training, evaluation and the gate's verdict.",
    "CompiledAgent": (
        "Serves an agent compiled from a procedure and keeps it up to date, promoting only models that passed the gate. "
        "Permission to create one implies permission to create pods."
    ),
}


MODELS = (
    ("Procedure", DESCRIPTIONS["Procedure"], ProcedureSpec, ProcedureStatus),
    ("CompileRun", DESCRIPTIONS["CompileRun"], CompileRunSpec, CompileRunStatus),
    ("CompiledAgent", DESCRIPTIONS["CompiledAgent"], CompiledAgentSpec, CompiledAgentStatus),
)


def procedures() -> Schema:
    """CRD of Procedure."""
    columns = [
        _column("Accepted", _condition("Accepted")),
        _column("Nodes", ".status.nodes", "integer"),
        _column("Hubs", ".status.hubs", "integer"),
        _column("Terminals", ".status.terminals", "integer"),
        _column("Paths", ".status.paths"),
        _column("MinTurns", ".status.minTurns", "integer"),
        _column("MaxTurns", ".status.maxTurns", "integer"),
        _column("Digest", ".status.digest", priority=1),
        _column("Message", '.status.conditions[?(@.type=="Accepted")].message', priority=1),
    ]
    text = DESCRIPTIONS["Procedure"]
    return _Kind("Procedure", "proc", text, structural_schema(ProcedureSpec), structural_schema(ProcedureStatus), columns).crd()


def compileruns() -> Schema:
    """CRD of CompileRun."""
    columns = [
        _column("Agent", r".metadata.labels.subterra\.dev/agent"),
        _column("Phase", ".status.phase"),
        _column("Reason", '.status.conditions[?(@.type=="Succeeded")].reason'),
        _column("Stage", ".status.progress"),
        _column("USD", ".status.usd"),
        _column("Verdict", ".status.verdict.result"),
        _column("Now", '.status.stages[?(@.state=="Running")].message', priority=1),
        _column("Message", '.status.conditions[?(@.type=="Succeeded")].message', priority=1),
    ]
    spec = structural_schema(CompileRunSpec)
    spec["properties"]["inputs"]["x-kubernetes-validations"] = _rules([INPUTS_RULE])
    spec["x-kubernetes-validations"] = _rules([ORIGIN_RULE, REEVALUATES_RULE])
    rules = [(RUN_NAME, f"the name of a CompileRun must have at most 49 characters: {NAME_FIX}")]
    text = DESCRIPTIONS["CompileRun"]
    return _Kind("CompileRun", "crun", text, spec, structural_schema(CompileRunStatus), columns, rules).crd()


def compiledagents() -> Schema:
    """CRD of CompiledAgent."""
    columns = [
        _column("Ready", _condition("Ready")),
        _column("UpToDate", _condition("UpToDate")),
        _column("Reason", ".status.reason"),
        _column("Serving", ".status.serving.version"),
        _column("Stage", ".status.stage"),
        _column("$/Conversation", ".status.price.usdPerConversationWithIdle"),
        _column("Message", '.status.conditions[?(@.type=="UpToDate")].message', priority=1),
    ]
    rules = [(AGENT_NAME, f"the name of a CompiledAgent must have at most 40 characters: {NAME_FIX}")]
    scale = {
        "specReplicasPath": ".spec.serving.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    spec, status = structural_schema(CompiledAgentSpec), structural_schema(CompiledAgentStatus)
    spec["properties"]["serving"]["default"] = {"replicas": 1}  # or the scale subresource could not be read, so nothing could scale
    spec["properties"]["serving"]["properties"]["replicas"]["default"] = 1
    return _Kind("CompiledAgent", "cagent", DESCRIPTIONS["CompiledAgent"], spec, status, columns, rules, scale).crd()


def all_crds() -> list[Schema]:
    """All three CRDs."""
    return [procedures(), compileruns(), compiledagents()]


def files() -> dict[Path, str]:
    """All generated files with their content. The chart's copies survive `helm uninstall`, and so do the agents."""
    result = {}
    for crd in all_crds():
        name = crd["metadata"]["name"].partition(".")[0] + ".yaml"
        header = "# Generated from api/subterra_api by `make generate`. Do not edit.\n"
        result[Path("crds") / name] = header + _yaml(crd)
        kept = crd | {"metadata": crd["metadata"] | {"annotations": {"helm.sh/resource-policy": "keep"}}}
        body = _yaml(kept).replace("{{", '{{ "{{" }}')
        wrapped = f"{header}{{{{- if .Values.crds.install }}}}\n{body}{{{{- end }}}}\n"
        result[Path("charts/subterra/templates/crds") / name] = wrapped
    return result | {Path("docs/reference/api.md"): reference_page.page(MODELS)}


def _yaml(value: Schema) -> str:
    return yaml.dump(value, Dumper=_Plain, sort_keys=False, width=130, allow_unicode=True)


class _Plain(yaml.SafeDumper):
    """Writes every value in full: people do not read YAML anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def main() -> int:
    """Writes the files below the current directory; with `--check`, lists outdated ones and returns 1."""
    return write_or_check(files(), __doc__)


if __name__ == "__main__":
    sys.exit(main())
