"""Evaluations for tests of the report: real scenarios and replays, agents with known faults, judges with known noise."""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from subterra_api.digest import procedure_digest
from subterra_api.job_contract.defaults import resolve
from subterra_api.job_contract.messages import RunInput
from subterra_api.v1alpha1.compilerun import CompileInputs
from subterra_api.v1alpha1.scores import Proportion
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.scripted import chat_messages, scripted_utterances
from subterra_jobs.evaluate.analysis.summary import summarise
from subterra_jobs.evaluate.judge.conformance import replay
from subterra_jobs.evaluate.judge.results import Accuracy, Evidence, Judgement, JudgingQuality, Repeat, Result
from subterra_jobs.evaluate.judge.rule_judge import judge_by_rules
from subterra_jobs.evaluate.judge.rule_labeller import RuleLabeller
from subterra_jobs.evaluate.report.html import render_html
from subterra_jobs.evaluate.report.report import Evaluated, build_report
from subterra_jobs.evaluate.scenarios.build import build_scenarios
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.conversation import Conversation
from subterra_jobs.evaluate.simulate.vllm_client import Reply
from subterra_testkit.runs.generation_inputs import TRAVEL_1, travel
from subterra_testkit.servers.fake_chat_server import DAMAGES

GRAPH = Graph(travel())
LABELLER = RuleLabeller(GRAPH)
JUDGES = ("claude-sonnet-4-5", "gpt-4.1")
HOSTILE = "<script>alert('quote')</script><img src=x onerror=alert(1)>"
PROVENANCE = {"run": "default/travel-1", "made": "2026-01-01 00:00 UTC"}
ReportArms = dict[str, list[Result]]
Sample = tuple[RunInput, ReportArms, JudgingQuality]


def run_input(count: int) -> RunInput:
    """A run with `count` scenarios."""
    inputs = CompileInputs.model_validate({"procedureRef": {"name": "travel"}, "evaluation": {"scenarios": count, "seed": 7}})
    return resolve(inputs, travel(), procedure_digest(travel()), TRAVEL_1, store=Path("/nowhere").as_uri())


def scripted_conversation(scenario: Scenario, damage: str, usd: str | None = None, seconds: float = 0.4) -> Conversation:
    """The scripted customer's conversation with a faulty agent."""
    said = scripted_utterances(GRAPH, scenario.path, scenario.values, random.Random(1))
    right = (turn["content"] for turn in chat_messages("", scenario.opener, said)[1:] if turn["role"] == "assistant")
    chat: list[dict[str, str]] = []
    replies: list[Reply] = []
    for line in (None, *scenario.lines) if scenario.agent_first else scenario.lines:
        chat += [] if line is None else [{"role": "user", "content": line}]
        text = DAMAGES[damage](next(right, "Goodbye!"), chat)
        if text is None:
            return Conversation(tuple(chat), tuple(replies), "the server answered 400: this conversation is too long")
        replies.append(Reply(text, seconds, 40 + 30 * len(chat), len(text) // 4, "stop", usd))
        chat.append({"role": "assistant", "content": text})
    return Conversation(tuple(chat), tuple(replies))


def judged_by_rules(scenario: Scenario, conversation: Conversation) -> Result:
    """The rule judge's result."""
    labels = [LABELLER.label(reply.text) for reply in conversation.replies]
    replayed = replay(GRAPH, scenario.path, scenario.values, labels)
    return Result(scenario, conversation, replayed, (judge_by_rules(scenario.path, scenario.lines, conversation, replayed),))


def noisy_judgement(judgement: Judgement, by: str, chat: tuple[dict[str, str], ...], rng: random.Random) -> Judgement:
    """An LLM judge's version of a judgement: sometimes a point off, with quotes."""
    scores = {name: min(5, max(1, score + rng.choice((0, 0, 0, 0, -1, 1)))) for name, score in judgement.scores.items()}
    quote = next((turn["content"] for turn in chat if turn["role"] == "assistant"), "")
    evidence = {name: Evidence((quote, HOSTILE), f"Level {score} fits. {HOSTILE}") for name, score in scores.items()}
    return replace(judgement, scores=scores, evidence=evidence if quote else {}, judge=by)


def single(count: int = 120) -> Sample:
    """The candidate alone, judged by rules: sometimes it hands over too soon, forgets the destination, or books unasked."""
    run = run_input(count)
    scenarios = build_scenarios(GRAPH, run.evaluation)
    faults = {3: "hasty", 8: "forgetful", 13: "bold"}
    results = [
        judged_by_rules(scenario, scripted_conversation(scenario, faults.get(index % 20, "none")))
        for index, scenario in enumerate(scenarios)
    ]
    return run, {"candidate": results}, JudgingQuality()


def paired(count: int = 120) -> Sample:
    """Two references, two baselines, two judges; an edit affects every sixth scenario."""
    run, rng = run_input(count), random.Random(1)
    scenarios = [
        replace(scenario, affected_by_edit=index % 6 == 0) for index, scenario in enumerate(build_scenarios(GRAPH, run.evaluation))
    ]
    styles: dict[str, tuple[Callable[[int], str], str | None, float]] = {
        "candidate": (lambda index: {5: "bold", 11: "garbled", 17: "broken"}.get(index % 40, "none"), None, 0.5),
        "serving": (lambda index: "forgetful" if index % 15 == 4 else "none", None, 0.5),
        "anchor": (lambda index: "bold" if index % 9 == 2 else "none", None, 0.5),
        "in-context": (lambda index: "hasty" if index % 12 == 7 else "none", "0.00731", 2.1),
        "orchestrator (claude-sonnet-4-5)": (lambda index: "bold" if index % 4 == 1 else "none", "0.01204", 4.9),
    }
    arms: ReportArms = {}
    for name, (fault, usd, seconds) in styles.items():
        by_rules = [
            judged_by_rules(scenario, scripted_conversation(scenario, fault(index), usd, seconds))
            for index, scenario in enumerate(scenarios)
        ]
        arms[name] = [_judged_by_models(result, rng) for result in by_rules]
    repeated = [result for result in arms["serving"][:12] if result.judgements[0] is not None]
    repeats = tuple(
        Repeat(index, first, noisy_judgement(first, first.judge, result.conversation.chat, rng))
        for result in repeated
        for index, first in enumerate(result.judgements)
        if first is not None
    )
    accuracy = Accuracy(Proportion(hits=93, of=96), Proportion(hits=88, of=91), Proportion(hits=17, of=20))
    return run, arms, JudgingQuality(JUDGES, repeats, "claude-sonnet-4-5", accuracy)


def _judged_by_models(result: Result, rng: random.Random) -> Result:
    by_rules = result.judgements[0]
    assert by_rules is not None
    noisy = [noisy_judgement(by_rules, f"{name[:4]}0123", result.conversation.chat, rng) for name in JUDGES]
    return replace(result, judgements=tuple(None if rng.random() < 0.01 else judgement for judgement in noisy))


def evaluated(sample: Sample, provenance: Mapping[str, str]) -> Evaluated:
    """What the report of a sample is made from."""
    run, arms, quality = sample
    return Evaluated(run, GRAPH, arms, summarise(arms, 7), provenance, quality)


def page(sample: Sample) -> str:
    """The report as a page."""
    return render_html(build_report(evaluated(sample, PROVENANCE)), GRAPH, sample[1])
