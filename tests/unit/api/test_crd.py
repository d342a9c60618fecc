"""The generated CRDs."""

import copy
from typing import Any

import pytest
import yaml

from subterra_api import crd
from subterra_testkit.cluster.kubernetes_objects import ROOT

CRDS = {item["spec"]["names"]["kind"]: item for item in crd.all_crds()}


def schemas(node: Any) -> list[dict[str, Any]]:
    """All schemas inside a schema."""
    found = [node]
    for child in [*node.get("properties", {}).values(), node.get("items"), node.get("additionalProperties")]:
        found += schemas(child) if isinstance(child, dict) else []
    return found


def test_the_files_are_what_the_models_say() -> None:
    files = crd.files()
    assert [str(path) for path, text in files.items() if (ROOT / path).read_text() != text] == [], "run `make generate`"
    assert max(map(len, files.values())) < 200_000


@pytest.mark.parametrize("kind", CRDS)
def test_a_schema_is_structural_and_defaults_nothing_but_an_unseen_status_and_replicas(kind: str) -> None:
    root = copy.deepcopy(CRDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    assert root["properties"]["status"].pop("default") == {"observedGeneration": -1}
    if kind == "CompiledAgent":
        serving = root["properties"]["spec"]["properties"]["serving"]
        assert (serving.pop("default"), serving["properties"]["replicas"].pop("default")) == ({"replicas": 1}, 1), "in no digest"
    for schema in schemas(root):
        assert "type" in schema or schema.get("x-kubernetes-int-or-string"), schema
        assert not set(schema) & {"default", "$ref", "anyOf", "title", "const"}, schema


def test_only_free_form_items_keep_unknown_fields() -> None:
    text = yaml.safe_dump(CRDS["Procedure"])
    assert "preserve-unknown-fields" not in text


def test_an_agent_can_be_scaled() -> None:
    assert CRDS["CompiledAgent"]["spec"]["versions"][0]["subresources"]["scale"]["specReplicasPath"] == ".spec.serving.replicas"


@pytest.mark.parametrize("kind", CRDS)
def test_no_field_has_a_name_that_other_yaml_parsers_take_for_a_truth_value(kind: str) -> None:
    root = CRDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    names = {name for schema in schemas(root) for name in schema.get("properties", ())}
    assert not names & {"y", "n", "yes", "no", "on", "off"}
