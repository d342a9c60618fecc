"""The demo's own check of a conversation can say yes and no."""

import json
import random
from typing import Any

import pytest
import yaml

from subterra_api.job_contract.defaults import generation_of
from subterra_api.v1alpha1.compilerun import GatePolicy, GenerationSettings
from subterra_api.v1alpha1.training_settings import TrainingSettings
from subterra_cli.files.lint_report import load_spec
from subterra_core.procedure.graph import Graph
from subterra_demo.customers import load_customers
from subterra_demo.replay import replay
from subterra_demo.scraped_cluster import scrape_jobs
from subterra_demo.steps import SLOW_PROCESSOR, StepError
from subterra_demo.unheard import heard_in_training
from subterra_jobs.dialogue.phrasing.customer_phrasing import CustomerPhrasing
from subterra_jobs.dialogue.scripted import chat_messages, scripted_utterances
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_testkit.repository import ROOT

PROCEDURE = load_spec(ROOT / "examples/travel/procedure.yaml")
GRAPH = Graph(PROCEDURE)


def perfect_replies(number: int) -> list[str]:
    customer = load_customers()[number]
    chat = chat_messages("", None, scripted_utterances(GRAPH, customer.path, customer.values, random.Random(1)))
    return [message["content"] for message in chat if message["role"] == "assistant"]


def test_an_agent_that_keeps_to_the_procedure_is_conformant() -> None:
    for number, customer in enumerate(load_customers()):
        found = replay(PROCEDURE, customer, perfect_replies(number))
        assert found.conformant, found.summary
        assert f"to {customer.path[-1]}" in found.summary


def test_a_skipped_turn_is_named() -> None:
    replies = perfect_replies(0)
    found = replay(PROCEDURE, load_customers()[0], [*replies[:1], *replies[2:], replies[-1]])
    assert (found.conformant, found.summary.split(";")[0]) == (
        False,
        "after trip the agent should have said ask_budget, but said options",
    )


def test_nonsense_is_not_conformant() -> None:
    found = replay(PROCEDURE, load_customers()[0], ["Lorem ipsum."] * 6)
    assert "something unrecognizable" in found.summary


def row(*lines: str) -> str:
    return json.dumps({"messages": [{"role": "user", "content": line} for line in lines]})


def test_a_sentence_that_was_trained_is_found_whole_and_by_a_run_of_words() -> None:
    said = load_customers()[0].says
    assert heard_in_training(load_customers(), [row("Something else.")]) == []
    assert heard_in_training(load_customers(), [row("Hi", said[0].upper())]) == [said[0]]
    assert heard_in_training(load_customers(), [row(f"Well, {' '.join(said[0].split()[:6])}!")]) == [said[0]]


def test_the_customers_say_nothing_that_the_scripted_teacher_writes() -> None:
    plan = plan_conversations(PROCEDURE, generation_of(GenerationSettings(), "bundled"))
    teacher = CustomerPhrasing(GRAPH, held_out=False)
    lines = [scripted_utterances(GRAPH, each.path, each.values, random.Random(each.id), teacher) for each in plan]
    rows = [row(*(utterance.text for utterance in utterances if utterance.role == "user")) for utterances in lines]
    assert heard_in_training(load_customers(), rows) == []


def _pod(namespace: str, port: str, **labels: str) -> dict[str, Any]:
    container = {"ports": [{"name": port, "containerPort": 8080}, {"name": "progress", "containerPort": 1}]}
    metadata = {"name": "p", "namespace": namespace, "labels": labels}
    return {"metadata": metadata, "spec": {"containers": [container]}, "status": {"podIP": "10.0.0.1"}}


def test_a_prometheus_of_the_demo_scrapes_what_the_charts_monitors_would() -> None:
    serving = {"app.kubernetes.io/component": "serving", "subterra.dev/agent": "travel", "subterra.dev/version": "abc"}
    jobs = scrape_jobs([_pod("subterra-system", "http"), _pod("demo", "metrics", **serving), _pod("demo", "http")])
    assert {job["job_name"]: job["static_configs"] for job in jobs} == {
        "operator": [{"targets": ["10.0.0.1:8080"], "labels": {"namespace": "subterra-system", "pod": "p"}}],
        "agents": [
            {"targets": ["10.0.0.1:8080"], "labels": {"namespace": "demo", "pod": "p", "agent": "travel", "version": "abc"}}
        ],
    }


def test_without_a_served_agent_there_is_nothing_to_draw() -> None:
    with pytest.raises(StepError, match="run make demo first"):
        scrape_jobs([_pod("subterra-system", "http")])


def test_the_smaller_demo_is_the_example_but_for_its_size_and_two_limits() -> None:
    changes = yaml.safe_load(SLOW_PROCESSOR.read_text())["spec"]
    assert set(changes["compile"]["template"]) == {"generation", "training", "execution", "evaluation"}
    assert set(changes["promotion"]["gate"]) == {"minPhrasings", "maxFabricationRate"}
    GatePolicy.model_validate(changes["promotion"]["gate"])
    TrainingSettings.model_validate(changes["compile"]["template"]["training"])
    GenerationSettings.model_validate(changes["compile"]["template"]["generation"])
