"""examples/scheduling/shared-gpu.yaml and the guide's section about it: what is written there is accepted, and adds up."""

import re
from typing import Any

import pytest
import yaml

from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_core.node_pools import POOLS, serving_usd_per_hour
from subterra_core.training_fit.gpu_cards import card_named
from subterra_core.training_fit.model_shape import known_shapes
from subterra_operator.decide.unrunnable import promotion_problems, serving_problems
from subterra_operator.settings import Settings
from subterra_operator.specs.deployment import ServingTarget, deployment
from subterra_operator.specs.vllm_container import Model, check_arguments
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.repository import ROOT

AGENTS = {
    document["metadata"]["name"]: CompiledAgentSpec.model_validate(document["spec"])
    for document in yaml.safe_load_all((ROOT / "examples/scheduling/shared-gpu.yaml").read_text())
}
SECTION = (ROOT / "docs/guides/gpu.md").read_text().partition("## 8. Several agents on one GPU\n")[2].partition("\n## ")[0]
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", SECTION, re.S)]
SHARING, POOL = (next(block for block in BLOCKS if key in block) for key in ("sharing", "pools"))
[SHARED] = SHARING["sharing"]["timeSlicing"]["resources"]
SETTINGS = Settings(pools=POOLS.validate_python(POOL["pools"]), jobs_gpu_image="jobs-gpu:1")
REST = 3e9
"""Context, kernels and activations, as the guide counts them."""


def argument(spec: CompiledAgentSpec, flag: str) -> float:
    """The value of one of vLLM's flags."""
    [value] = [each.partition("=")[2] for each in spec.serving.args if each.startswith(f"{flag}=")]
    return float(value)


def card_bytes() -> float:
    card = card_named("A100-80")
    assert card
    return card.mebibytes * 2**20


@pytest.mark.parametrize("name", AGENTS)
def test_the_agents_are_accepted_and_served_by_the_image_for_gpus(name: str) -> None:
    spec = AGENTS[name]
    check_arguments(spec.serving.args)
    assert [*serving_problems(spec.serving, SETTINGS), *promotion_problems(spec)] == []
    target = ServingTarget(Model("models/abc", name), "sha256:" + "a" * 64)
    pod: Any = deployment(make.agent(), spec, target, SETTINGS, make.NOW)["spec"]["template"]["spec"]
    [vllm] = pod["containers"]
    assert (vllm["image"], vllm["resources"]["limits"]["nvidia.com/gpu.shared"]) == ("jobs-gpu:1", "1")


def test_the_price_is_that_of_a_share() -> None:
    prices = {serving_usd_per_hour(spec, SETTINGS.pools) for spec in AGENTS.values()}
    assert {float(price) for price in prices} == {2.50 / SHARED["replicas"]}


def test_all_shares_together_fit_the_card_and_leave_one_for_a_new_version_of_each() -> None:
    fractions = [argument(spec, "--gpu-memory-utilization") for spec in AGENTS.values()]
    assert SHARED["replicas"] * max(fractions) <= 0.9
    assert SHARED["replicas"] >= 2 * len(AGENTS)


@pytest.mark.parametrize("name", AGENTS)
def test_a_share_holds_weights_conversations_and_the_rest(name: str) -> None:
    spec, shape = AGENTS[name], known_shapes()["Qwen/Qwen2.5-3B-Instruct"]
    width = shape.head_dim or shape.hidden_size // shape.num_attention_heads
    per_token = 2 * shape.num_hidden_layers * shape.num_key_value_heads * width * 2
    tokens = argument(spec, "--max-num-seqs") * argument(spec, "--max-model-len")
    needed = 2 * shape.parameters + per_token * tokens + REST
    assert per_token == 36_864
    assert needed <= argument(spec, "--gpu-memory-utilization") * card_bytes()
    assert f"{needed / 1e9:.0f} GB" in SECTION
