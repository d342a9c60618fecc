"""`subterra plan`: what a compile will pay, from its manifests alone."""

import json
import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.main import app
from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.judge.llm_judge import REPEAT_SHARE
from subterra_jobs.stage import environment
from subterra_testkit.procedures import branch, shop
from subterra_testkit.repository import ROOT

PROCEDURE, SCRIPTED, MODELS = (
    str(ROOT / "examples" / name) for name in ("travel/procedure.yaml", "travel/agent.yaml", "models/agent.yaml")
)
SONNET = {"name": "anthropic", "model": "claude-sonnet-4-5"}
GPT = {"name": "openai", "model": "gpt-4.1"}


def plan(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["plan", *arguments])


def agent(folder: Path, *, budget: dict[str, str] | None = None, evaluation: dict[str, Any] | None = None, **spec: Any) -> str:
    """A small agent, written and judged by models, as a file."""
    judges = {"simulator": SONNET, "judge": SONNET, "secondJudge": GPT, "scenarios": 20}
    template = {"generation": {"teacher": SONNET, "conversations": 40}, "evaluation": judges | (evaluation or {})}
    made = {
        "apiVersion": "subterra.dev/v1alpha1",
        "kind": "CompiledAgent",
        "metadata": {"name": "travel"},
        "spec": {"compile": {"procedureRef": {"name": "travel"}, "template": template}, "budget": budget or {}, **spec},
    }
    file = folder / "agent.yaml"
    file.write_text(yaml.safe_dump(made))
    return str(file)


def models(folder: Path) -> str:
    """The agent of `examples/models` with few conversations and scenarios, as a file."""
    made = yaml.safe_load(Path(MODELS).read_text())
    template = made["spec"]["compile"]["template"]
    template["generation"]["conversations"] = 40
    template["evaluation"]["scenarios"] = 20
    file = folder / "models.yaml"
    file.write_text(yaml.safe_dump(made))
    return str(file)


def data(*arguments: str) -> dict[str, Any]:
    told = plan(*arguments, "-o", "json")
    assert told.exit_code == 0, told.output
    found: dict[str, Any] = json.loads(told.output)
    return found


def test_a_table_tells_each_part_with_its_model_calls_tokens_and_dollars(tmp_path: Path) -> None:
    told = plan(PROCEDURE, agent(tmp_path, budget={"maxUSDPerRun": "50"}))
    assert told.exit_code == 0
    rows = told.output.splitlines()
    assert rows[0].split("  ")[0] == "PART"
    assert [row.split("  ")[0].strip() for row in rows[1:7]] == [
        "teacher",
        "blind reader",
        "customers",
        "judge",
        "second judge",
        "labeller",
    ]
    assert all(" to $" in row for row in rows[1:7])
    assert "40 conversations to write, 20 scenarios to evaluate with the candidate" in rows
    assert "spec.budget.maxUSDPerRun of $50 covers the maximum" in rows


def test_what_too_few_conversations_cannot_train_is_named_before_anything_is_paid(tmp_path: Path) -> None:
    spec = shop(*(branch(f"way{number}", f"Number {number}, please.") for number in range(20)))
    made = {"apiVersion": "subterra.dev/v1alpha1", "kind": "Procedure", "metadata": {"name": "travel"}, "spec": spec.dump()}
    (tmp_path / "procedure.yaml").write_text(yaml.safe_dump(made))
    file = Path(agent(tmp_path))
    content = yaml.safe_load(file.read_text())
    content["spec"]["compile"]["template"]["generation"]["conversations"] = 20
    file.write_text(yaml.safe_dump(content))
    told = plan(str(tmp_path / "procedure.yaml"), str(file))
    assert re.search(r"not trained: node way\d+ \(too few conversations; raise generation.conversations\), edge", told.output)
    assert "not trained" not in plan(PROCEDURE, str(file)).output


def test_what_is_scripted_costs_nothing_and_says_so() -> None:
    told = plan(PROCEDURE, SCRIPTED)
    assert told.exit_code == 0
    assert told.output.count("free") == 3
    assert "no paid API calls" in told.output


def test_the_sums_are_those_of_the_parts_and_calls_follow_from_the_settings(tmp_path: Path) -> None:
    found = data(PROCEDURE, agent(tmp_path))
    parts = {each["part"]: each for stage in ("generation", "evaluation") for each in found[stage]["parts"]}
    for end in ("low", "high"):
        assert found["usd"][end] == pytest.approx(sum(each["usd"][end] for each in parts.values()), abs=0.01)
        assert found["usd"][end] == pytest.approx(found["generation"]["usd"][end] + found["evaluation"]["usd"][end], abs=0.01)
    assert parts["judge"]["calls"]["low"] == 2 * (20 + round(REPEAT_SHARE * 20))
    assert parts["labeller"]["calls"]["low"] == 20 + 20
    paths = Graph(ProcedureSpec.model_validate(yaml.safe_load(Path(PROCEDURE).read_text())["spec"])).paths()
    assert parts["teacher"]["calls"]["low"] >= 40 * min(map(len, paths))


def test_a_recompile_plays_what_serves_and_the_anchor_too(tmp_path: Path) -> None:
    file = agent(tmp_path, promotion={"anchor": "sha256:" + "a" * 64})
    first, later = data(PROCEDURE, file), data(PROCEDURE, file, "--recompile")
    assert (first["conditions"], later["conditions"]) == (1, 3)
    customers = [next(each for each in found["evaluation"]["parts"] if each["part"] == "customers") for found in (first, later)]
    assert customers[1]["calls"]["low"] == 3 * customers[0]["calls"]["low"]
    assert later["generation"] == first["generation"]


def test_further_trials_are_played_and_judged_and_so_they_are_planned(tmp_path: Path) -> None:
    once, often = (data(PROCEDURE, agent(tmp_path, evaluation=trials)) for trials in ({}, {"trials": 3}))
    calls = [{each["part"]: each["calls"]["low"] for each in found["evaluation"]["parts"]} for found in (once, often)]
    assert calls[1]["customers"] == 3 * calls[0]["customers"]
    assert calls[1]["judge"] == 2 * (60 + round(REPEAT_SHARE * 60))
    assert often["generation"] == once["generation"]


def test_a_recompile_says_how_often_an_equal_candidate_would_pass_and_what_reaches_the_aim(tmp_path: Path) -> None:
    file = agent(tmp_path, evaluation={"scenarios": 300})
    [line] = data(PROCEDURE, file, "--recompile")["gate"]
    assert line.startswith("with 300 scenarios a candidate as good as what serves passes in about 7")
    assert line.endswith(" in 80%")
    wide = agent(tmp_path, evaluation={"scenarios": 300}, promotion={"gate": {"failureMargin": 0.1, "margin": 0.5}})
    assert data(PROCEDURE, wide, "--recompile")["gate"][0].endswith(" of evaluations")
    assert data(PROCEDURE, file)["gate"] == []


def test_an_evaluation_that_is_too_small_for_the_gate_is_named_before_anything_is_paid(tmp_path: Path) -> None:
    [warning] = data(PROCEDURE, agent(tmp_path, evaluation={"scenarios": 60}))["gate"]
    assert warning == "warning: evaluation.scenarios is 60, and with fewer than 100 nothing passes the gate; raise it"
    small = agent(tmp_path, evaluation={"scenarios": 20}, promotion={"gate": {"minScenarios": 1}})
    [warning] = data(PROCEDURE, small)["gate"]
    assert "with fewer than 30 nothing passes" in warning


def test_judges_without_the_certificate_that_the_policy_demands_are_named_before_anything_is_paid(tmp_path: Path) -> None:
    demand: dict[str, Any] = {"requireCertifiedJudge": True}
    enough = {"scenarios": 100}
    [line] = data(PROCEDURE, agent(tmp_path, evaluation=enough, promotion={"gate": demand}))["gate"]
    assert line.startswith("warning: the judges ")
    assert "gate.judgeCertificates is empty" in line
    judges = line.removeprefix("warning: the judges ").partition(" are")[0].split(" and ")
    shown = {"judges": judges, "language": "en", "sensitivity": 0.9, "specificity": 0.9, "conversations": 300}
    certified = demand | {"judgeCertificates": [shown | {"labels": "sha256:" + "1" * 64}]}
    assert data(PROCEDURE, agent(tmp_path, evaluation=enough, promotion={"gate": certified}))["gate"] == []


def test_judges_in_batches_have_the_price_of_batches_and_models_without_them_are_named(tmp_path: Path) -> None:
    local = {"name": "openai", "model": "gpt-4.1", "baseURL": "http://vllm/v1"}
    file = Path(agent(tmp_path, evaluation={"secondJudge": local}))
    content = yaml.safe_load(file.read_text())
    single = data(PROCEDURE, str(file))
    content["spec"]["compile"]["template"]["execution"] = {"judging": {"mode": "Batch"}}
    file.write_text(yaml.safe_dump(content))
    batched = data(PROCEDURE, str(file))
    parts = [{each["part"]: each for each in found["evaluation"]["parts"]} for found in (single, batched)]
    for name, share in (("judge", 0.5), ("labeller", 0.5), ("second judge", 1), ("customers", 1)):
        assert parts[1][name]["usd"]["low"] == pytest.approx(share * parts[0][name]["usd"]["low"], abs=1e-3)
        assert parts[1][name]["calls"] == parts[0][name]["calls"]
    told = plan(PROCEDURE, str(file)).output
    assert "in batches, at 50% of the price of single calls: judge, labeller; what is not answered within 120 minutes" in told
    assert "call by call, because the provider has no batches for the model: second judge" in told


def test_the_documented_plan_is_what_the_command_prints() -> None:
    command = "$ subterra plan examples/travel/procedure.yaml examples/models/agent.yaml --recompile\n"
    documented = (ROOT / "docs/guides/costs-and-budgets.md").read_text().partition(command)[2].partition("```")[0]
    printed = plan(PROCEDURE, MODELS, "--recompile").output
    assert [line.rstrip() for line in printed.splitlines()] == documented.splitlines()


@pytest.mark.parametrize(
    ("cap", "code", "told"),
    [
        ("0.5", 1, "of $0.5 does not cover the minimum; raise it"),
        (None, 0, "covers the minimum but not the maximum"),
        ("1000", 0, "covers the maximum"),
    ],
)
def test_a_cap_below_the_least_exits_with_1(tmp_path: Path, cap: str | None, code: int, told: str) -> None:
    between = data(PROCEDURE, agent(tmp_path))["usd"]
    budget = {"maxUSDPer30Days": cap or f"{sum(between.values()) / 2:.2f}"}
    found = plan(PROCEDURE, agent(tmp_path, budget=budget))
    assert found.exit_code == code
    assert "spec.budget.maxUSDPer30Days" in found.output
    assert told in found.output


def test_models_that_end_soon_are_named_with_date_and_replacement(tmp_path: Path) -> None:
    told = plan(PROCEDURE, agent(tmp_path))
    assert told.exit_code == 0
    warnings = [line for line in told.output.splitlines() if line.startswith("warning: ") and " retires " in line]
    assert warnings[1] == "warning: evaluation.secondJudge.model: gpt-4.1 retires on 2027-01-14; use gpt-6-luna"
    assert "claude-sonnet-4-5 retires on 2026-11-30; use claude-sonnet-5-5" in warnings[0]
    assert len(data(PROCEDURE, agent(tmp_path))["retiring"]) == 2


def test_a_procedure_without_a_style_is_named_where_a_model_would_write_for_it(tmp_path: Path) -> None:
    bare = tmp_path / "bare.yaml"
    bare.write_text(re.sub(r"(?m)^  style: .*\n", "", Path(PROCEDURE).read_text()))
    told = [plan(*files).output for files in ((str(bare), agent(tmp_path)), (PROCEDURE, agent(tmp_path)), (str(bare), SCRIPTED))]
    assert ["the procedure has no style" in each for each in told] == [True, False, False]


def test_a_model_that_has_retired_cannot_be_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "current_date", lambda: date(2026, 11, 30))
    told = plan(PROCEDURE, agent(tmp_path))
    assert told.exit_code == 2
    assert "claude-sonnet-4-5 retired on 2026-11-30; use claude-sonnet-5-5" in told.output
    assert "gpt-4.1" not in told.output


def test_a_run_is_planned_like_an_agent(tmp_path: Path) -> None:
    made = yaml.safe_load(Path(agent(tmp_path)).read_text())
    source = made["spec"]["compile"]
    inputs = {"procedureRef": source["procedureRef"], **source["template"]}
    made |= {"kind": "CompileRun", "spec": {"inputs": inputs, "execution": {"maxUSD": "0.01"}}}
    both = tmp_path / "both.yaml"
    both.write_text(Path(PROCEDURE).read_text() + "\n---\n" + yaml.safe_dump(made))
    told = plan(str(both))
    assert told.exit_code == 1
    assert "spec.execution.maxUSD of $0.01 does not cover" in told.output


@pytest.mark.parametrize("values", ["mine-1: {input: '0', output: '0'}", "prices: {mine-1: {input: '0', output: '0'}}"])
def test_a_model_without_a_price_is_named_and_takes_one_from_a_file(tmp_path: Path, values: str) -> None:
    file = agent(tmp_path, evaluation={"secondJudge": {"name": "openai", "model": "mine-1"}})
    refused = plan(PROCEDURE, file)
    assert refused.exit_code == 2
    assert "evaluation.secondJudge.model: no price is known for model 'mine-1'" in refused.output
    assert "--prices FILE" in refused.output
    (tmp_path / "prices.yaml").write_text(values)
    found = data(PROCEDURE, file, "--prices", str(tmp_path / "prices.yaml"))
    assert next(each for each in found["evaluation"]["parts"] if each["part"] == "second judge")["usd"]["high"] == 0


def test_what_cannot_be_planned_is_told_with_its_place(tmp_path: Path) -> None:
    assert "contains no CompiledAgent or CompileRun" in plan(PROCEDURE).output
    assert "Procedure travel not found" in plan(MODELS).output
    assert "contain 2 CompiledAgents or CompileRuns" in plan(PROCEDURE, MODELS, SCRIPTED).output
    unlike = plan(PROCEDURE, agent(tmp_path, evaluation={"secondJudge": None}))
    assert "evaluation.secondJudge: a single model as judge is not enough" in unlike.output
    wrong = plan(PROCEDURE, agent(tmp_path, evaluation={"scenarios": "many"}))
    assert "spec.compile.template.evaluation.scenarios" in wrong.output
    (tmp_path / "prices.yaml").write_text("m: {input: free, output: '0'}")
    assert "prices.m.input" in plan(PROCEDURE, MODELS, "--prices", str(tmp_path / "prices.yaml")).output
    for told in (unlike, wrong, plan(str(tmp_path / "nothing.yaml"))):
        assert told.exit_code == 2
        assert "Traceback" not in told.output


def test_planning_needs_nothing_that_is_not_in_the_cli_extra() -> None:
    program = f"""
import sys
from subterra_cli.main import app
app(["plan", {PROCEDURE!r}, {SCRIPTED!r}], standalone_mode=False)
print("LOADED", *sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False).stdout
    loaded = {name.partition(".")[0] for name in told.partition("LOADED ")[2].split()}
    assert "subterra_jobs" in loaded
    assert not loaded & {"ray", "numpy", "scipy", "torch", "langgraph", "anthropic", "openai", "jinja2", "s3fs"}


def test_the_training_part_names_memory_cards_and_the_store_and_a_misfit_is_only_a_warning(tmp_path: Path) -> None:
    lines = plan(PROCEDURE, MODELS).output.splitlines()
    place = next(index for index, line in enumerate(lines) if line.startswith("training: Qwen2.5-3B-Instruct, 3.09 billion"))
    assert lines[place + 1] == "up to 67 GB per GPU, 9.2 GB of host memory"
    assert lines[place + 2].startswith("per GPU: weights 6.2 GB, gradients 12 GB, optimizer 37 GB, ")
    assert lines[place + 3] == "fits H100-80, A100-80, H200-141; does not fit L4-24, RTX-5090-32, A100-40"
    assert lines[place + 4].startswith("store: 93 GB (2 checkpoints of 43 GB, model of 6.2 GB)")
    assert lines[place + 5].startswith("warning: the training needs 93 GB on the store, whose claim has 20Gi")
    assert not any("claim has" in line for line in plan(PROCEDURE, models(tmp_path), "--store-size", "200Gi").output.splitlines())


def test_on_cpus_the_training_part_counts_ranks_and_the_pod() -> None:
    told = plan(PROCEDURE, SCRIPTED).output
    assert "training: SmolLM2-135M-Instruct, 134.5 million parameters, adamw, bfloat16, ZeRO-2, 2 ranks" in told
    assert "of memory in all, without a GPU" in told
    assert "warning" not in told


def test_the_training_is_data_too(tmp_path: Path) -> None:
    training = data(PROCEDURE, models(tmp_path))["training"]
    memory = training["bytesPerRank"]
    assert training["parameters"] == 3_085_938_688
    assert memory["weights"] + memory["gradients"] + memory["optimizer"] == 18 * training["parameters"]
    assert {card["name"]: card["fits"] for card in training["cards"]}["H200-141"] is True
    assert data(PROCEDURE, agent(tmp_path))["training"]["model"] == "scratch"


def test_a_model_of_unknown_shape_is_planned_without_memory_or_with_its_config(tmp_path: Path) -> None:
    made = yaml.safe_load(Path(agent(tmp_path)).read_text())
    made["spec"]["compile"]["template"]["baseModel"] = {"uri": "s3://models/mine"}
    file = tmp_path / "unknown.yaml"
    file.write_text(yaml.safe_dump(made))
    told = plan(PROCEDURE, str(file))
    assert told.exit_code == 0
    assert "the shape of s3://models/mine is not known; pass the model's config.json with --model-shape FILE" in told.output
    assert "not known" in data(PROCEDURE, str(file))["training"]["unknown"]
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "num_attention_heads": 4, "vocab_size": 1000}
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "llama", **sizes}))
    assert data(PROCEDURE, str(file), "--model-shape", str(config))["training"]["parameters"] == 210_240
    config.write_text(json.dumps({"model_type": "mamba", **sizes}))
    refused = plan(PROCEDURE, str(file), "--model-shape", str(config))
    assert refused.exit_code == 2
    assert "missing or unusable model_type" in refused.output


def test_a_base_model_that_would_be_refused_later_is_refused_by_its_config_or_directory(tmp_path: Path) -> None:
    made = yaml.safe_load(Path(agent(tmp_path)).read_text())
    made["spec"]["compile"]["template"]["baseModel"] = {"uri": "hf://org/mine"}
    file, model = tmp_path / "mine.yaml", tmp_path / "model"
    file.write_text(yaml.safe_dump(made))
    model.mkdir()
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "num_attention_heads": 4, "vocab_size": 1000}

    def planned(shape: Path, **config: Any) -> Result:
        (model / "config.json").write_text(json.dumps({"model_type": "llama", **sizes} | config))
        return plan(PROCEDURE, str(file), "--model-shape", str(shape))

    refused = planned(model / "config.json", max_position_embeddings=2048)
    assert (refused.exit_code, "set training.maxLength: 2048, or less" in refused.output) == (2, True)
    refused = planned(model)
    assert (refused.exit_code, "base model hf://org/mine: has no tokenizer.json" in refused.output) == (2, True)
    tokens = [{"id": number, "content": token} for number, token in enumerate(("<|im_start|>", "<|im_end|>"))]
    (model / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}))
    assert "training: mine, 0.2 million parameters" in planned(model).output
    told = planned(model, model_type="qwen3_moe")
    assert told.exit_code == 0, "it can be trained, although nothing is known of its memory"
    assert "memory and disk are not estimated: not the config.json of a dense model" in told.output


def test_a_store_size_that_is_no_quantity_is_refused() -> None:
    refused = plan(PROCEDURE, MODELS, "--store-size", "large")
    assert refused.exit_code == 2
    assert "--store-size large: not a Kubernetes quantity; use one such as 200Gi" in refused.output


def test_a_plan_names_the_facts_that_clients_send() -> None:
    files = [str(ROOT / "examples/zoom" / name) for name in ("procedure.yaml", "agent.yaml")]
    fact = "fact plan: sent by the client, one of Basic, Pro, Business, Enterprise; "
    assert f"{fact}first read by node check_plan, for the agent's message 2 at the earliest" in plan(*files).output.splitlines()
    assert data(*files)["context"]["properties"]["plan"]["x-firstReadBy"] == "check_plan"
