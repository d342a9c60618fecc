"""Objects that the drill makes: small agents of its own, a quota, a pod that may write to the store. Pure."""

import copy
import json
from collections.abc import Mapping
from typing import Any

import yaml

from subterra_cli.files.first_agent import first_agent

Manifest = dict[str, Any]


def procedure(name: str) -> Manifest:
    """A Procedure without errors."""
    return _parts(name)[0]


def without_examples(name: str) -> Manifest:
    """A Procedure that is accepted, and whose first turn the scripted teacher has no words for."""
    found = procedure(name)
    found["spec"]["nodes"][0].pop("examples")
    return found


def with_a_dead_end(name: str) -> Manifest:
    """A Procedure that is not accepted: an edge leads to a node that does not exist."""
    found = procedure(name)
    found["spec"]["nodes"][0]["next"] = [{"to": "nowhere"}]
    return found


def agent(name: str, compile_settings: Mapping[str, Any] | None = None, **template: Any) -> Manifest:
    """An agent that compiles the Procedure of its name; ``template`` has settings of its runs."""
    found = _parts(name)[1]
    found["spec"]["compile"] |= dict(compile_settings or {})
    found["spec"]["compile"]["template"] |= template
    return found


def quota(name: str, **limits: str) -> Manifest:
    """A ResourceQuota; of a limit's name `__` stands for `/` and `_` for a dot."""
    hard = {limit.replace("__", "/").replace("_", "."): value for limit, value in limits.items()}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": hard}}


def store_pod(name: str, template: Mapping[str, Any]) -> Manifest:
    """A pod that idles as vLLM's user with the store mounted for writing, made from the ``template`` of a serving Deployment."""
    spec = copy.deepcopy(template["spec"])
    [vllm] = [each for each in spec["containers"] if each["name"] == "vllm"]
    kept = {key: vllm[key] for key in ("name", "image", "imagePullPolicy", "securityContext") if key in vllm}
    mounts = [{key: value for key, value in mount.items() if key != "readOnly"} for mount in vllm["volumeMounts"]]
    idle = {"command": ["python3", "-c", "import time; time.sleep(86400)"], "volumeMounts": mounts}
    spec |= {"containers": [kept | idle], "initContainers": [], "terminationGracePeriodSeconds": 0, "restartPolicy": "Never"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def text(manifest: Manifest) -> str:
    """The object in JSON, which kubectl reads as well."""
    return json.dumps(manifest)


def _parts(name: str) -> tuple[Manifest, Manifest]:
    found, made = yaml.safe_load_all(first_agent(name))
    return found, made
