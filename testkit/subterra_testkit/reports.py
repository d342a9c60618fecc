"""Evaluations made up for tests of the report: real scenarios and replays, agents with known faults, judges with known noise."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from subterra_api.digest import procedure_digest
from subterra_api.job_contract.defaults import resolve
from subterra_api.job_contract.messages import RunInput
from subterra_api.v1alpha1.compilerun import CompileInputs
from subterra_api.v1alpha1.scores import Tally
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.scripted import messages, write
from subterra_jobs.evaluate.analysis.summary import summarise
from subterra_jobs.evaluate.judge.conformance import replay
from subterra_jobs.evaluate.judge.results import Accuracy, Evidence, Judgement, Judging, Repeat, Result
from subterra_jobs.evaluate.judge.rule_judge import judge
from subterra_jobs.evaluate.judge.rule_labeller import Labeller
from subterra_jobs.evaluate.report import report
from subterra_jobs.evaluate.report.html import html
from subterra_jobs.evaluate.scenarios import build
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.simulation import Dialogue
from subterra_jobs.evaluate.simulate.vllm_client import Reply
from subterra_testkit.fake_chat_server import DAMAGES
from subterra_testkit.generation_inputs import TRAVEL_1, travel

GRAPH = Graph(travel())
LABELLER = Labeller(GRAPH)
JUDGES = ("claude-sonnet-4-5", "gpt-4.1")
HOSTILE = "<script>alert('quote')</script><img src=x onerror=alert(1)>"
Arms = dict[str, list[Result]]
Sample = tuple[RunInput, Arms, Judging]


def run_input(count: int) -> RunInput:
    """A run with so many scenarios."""
    inputs = CompileInputs.model_validate({"procedureRef": {"name": "travel"}, "evaluation": {"scenarios": count, "seed": 7}})
    return resolve(inputs, travel(), procedure_digest(travel()), TRAVEL_1, store=Path("/nowhere").as_uri())


def talk(scenario: Scenario, damage: str, usd: str | None = None, seconds: float = 0.4) -> Dialogue:
    """The scripted customer with an agent that has a fault."""
    said = write(GRAPH, scenario.path, scenario.values, random.Random(1))
    right = (turn["content"] for turn in messages("", scenario.opener, said)[1:] if turn["role"] == "assistant")
    chat: list[dict[str, str]] = []
    replies: list[Reply] = []
    for line in (None, *scenario.lines) if scenario.agent_first else scenario.lines:
        chat += [] if line is None else [{"role": "user", "content": line}]
        text = DAMAGES[damage](next(right, "Goodbye!"), chat)
        if text is None:
            return Dialogue(tuple(chat), tuple(replies), "the server answered 400: this conversation is too long")
        replies.append(Reply(text, seconds, 40 + 30 * len(chat), len(text) // 4, "stop", usd))
        chat.append({"role": "assistant", "content": text})
    return Dialogue(tuple(chat), tuple(replies))


def ruled(scenario: Scenario, dialogue: Dialogue) -> Result:
    """As the rule judge sees it."""
    found = replay(GRAPH, scenario.path, scenario.values, [LABELLER.label(reply.text) for reply in dialogue.replies])
    return Result(scenario, dialogue, found, (judge(scenario.path, scenario.lines, dialogue, found),))


def noisy(given: Judgement, by: str, chat: tuple[dict[str, str], ...], rng: random.Random) -> Judgement:
    """What a judge that is a model makes of it: now and then a point off, with quotes."""
    scores = {name: min(5, max(1, score + rng.choice((0, 0, 0, 0, -1, 1)))) for name, score in given.scores.items()}
    quote = next((turn["content"] for turn in chat if turn["role"] == "assistant"), "")
    why = {name: Evidence((quote, HOSTILE), f"Level {score} fits. {HOSTILE}") for name, score in scores.items()}
    return replace(given, scores=scores, evidence=why if quote else {}, judge=by)


def single(count: int = 120) -> Sample:
    """The candidate alone, judged by rules: now and then it hands over too soon, forgets where to, or books unasked."""
    run = run_input(count)
    cast = build.build(GRAPH, run.evaluation)
    faults = {3: "hasty", 8: "forgetful", 13: "bold"}
    results = [ruled(one, talk(one, faults.get(at % 20, "none"))) for at, one in enumerate(cast)]
    return run, {"candidate": results}, Judging()


def paired(count: int = 120) -> Sample:
    """Two references, two baselines, two judges; an edit touches every sixth scenario."""
    run, rng = run_input(count), random.Random(1)
    cast = [replace(one, touched=at % 6 == 0) for at, one in enumerate(build.build(GRAPH, run.evaluation))]
    styles: dict[str, tuple[Callable[[int], str], str | None, float]] = {
        "candidate": (lambda at: {5: "bold", 11: "garbled", 17: "broken"}.get(at % 40, "none"), None, 0.5),
        "serving": (lambda at: "forgetful" if at % 15 == 4 else "none", None, 0.5),
        "anchor": (lambda at: "bold" if at % 9 == 2 else "none", None, 0.5),
        "in-context": (lambda at: "hasty" if at % 12 == 7 else "none", "0.00731", 2.1),
        "orchestrator (claude-sonnet-4-5)": (lambda at: "bold" if at % 4 == 1 else "none", "0.01204", 4.9),
    }
    arms: Arms = {}
    for name, (fault, usd, seconds) in styles.items():
        plain = [ruled(one, talk(one, fault(at), usd, seconds)) for at, one in enumerate(cast)]
        arms[name] = [_judged(result, rng) for result in plain]
    twice = [each for each in arms["serving"][:12] if each.judgements[0] is not None]
    repeats = tuple(
        Repeat(place, first, noisy(first, first.judge, each.dialogue.chat, rng))
        for each in twice for place, first in enumerate(each.judgements) if first is not None
    )  # fmt: skip
    accuracy = Accuracy(Tally(hits=93, of=96), Tally(hits=88, of=91), Tally(hits=17, of=20))
    return run, arms, Judging(JUDGES, repeats, "claude-sonnet-4-5", accuracy)


def _judged(result: Result, rng: random.Random) -> Result:
    plain = result.judgements[0]
    assert plain is not None
    given = [noisy(plain, f"{name[:4]}0123", result.dialogue.chat, rng) for name in JUDGES]
    return replace(result, judgements=tuple(None if rng.random() < 0.01 else each for each in given))


def page(sample: Sample) -> str:
    """The report as a page."""
    run, arms, judging = sample
    about = {"run": "default/travel-1", "made": "2026-01-01 00:00 UTC"}
    return html(report.build(run, GRAPH, arms, summarise(arms, 7), about, judging), GRAPH, arms)
