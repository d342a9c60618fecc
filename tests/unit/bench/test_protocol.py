"""The bench of whole evaluations: what it asks for is valid, a complete report passes its checks, and what is missing is named."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import yaml
from bench.protocol.checks import Outcome, problems
from bench.protocol.plan import PROTOCOLS, Endpoints, Protocol, agent_spec, helm_values
from bench.protocol.tables import Measured, lines

from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_api.v1alpha1.compilerun import CompileInputs
from subterra_core.provider_rules import provider_conflicts
from subterra_jobs.evaluate.analysis.summary import summarise
from subterra_jobs.evaluate.judge.results import Judgement
from subterra_jobs.evaluate.report.html import render_html
from subterra_jobs.evaluate.report.report import Evaluated, build_report
from subterra_jobs.evaluate.report.transcripts import transcript_row
from subterra_testkit.runs.generation_inputs import EXAMPLES
from subterra_testkit.runs.reports import GRAPH, JUDGES, paired

AT = Endpoints("http://10.0.0.1:1000", "http://10.0.0.1:2000")
AGENT = yaml.safe_load((EXAMPLES / "travel/agent.yaml").read_text())["spec"]
LOST = {"arm": "in-context", "id": "1", "error": "ReadTimeout: "}
Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_the_agent_gets_an_evaluation_that_the_operator_accepts_and_stays_what_it_was_otherwise(protocol: Protocol) -> None:
    changed = agent_spec(AGENT, protocol.evaluation(AT), None)
    spec = CompiledAgentSpec.model_validate(changed)
    assert spec.compile is not None
    template = spec.compile.template
    assert provider_conflicts(CompileInputs(procedure_ref=spec.compile.procedure_ref, evaluation=template.evaluation)) == ()
    assert (template.evaluation.scenarios or 300) == protocol.scenarios
    assert len(template.evaluation.baselines) + 2 == len(protocol.arms)
    assert {"train", "apiKeySecrets"} == set(changed["compile"]["template"]["execution"])
    before = CompiledAgentSpec.model_validate(AGENT)
    assert (spec.promotion, spec.serving, spec.cost) == (before.promotion, before.serving, before.cost)
    named = {each.provider.base_url for each in template.evaluation.baselines} | {template.evaluation.second_judge.base_url}  # type: ignore[union-attr]
    assert named - {None} <= {each["baseURL"] for each in AT.listed}


def test_another_seed_and_the_endpoints_are_told() -> None:
    assert agent_spec(AGENT, {}, 8)["compile"]["template"]["evaluation"] == {"seed": 8}
    assert json.loads(helm_values(AT)[1].removeprefix("--set-json=openai.endpoints=")) == AT.listed


def _given(judgements: Sequence[Judgement | None], place: int) -> Judgement:
    """A judge's judgement, or the other one's in its name."""
    other = next(each for each in judgements if each is not None)
    return judgements[place] or replace(other, judge=f"{JUDGES[place][:4]}0123")


@pytest.fixture(scope="module")
def whole() -> tuple[Protocol, Outcome]:
    """A made-up evaluation with everything in it, and what was asked for: no edit, no anchor, every conversation judged."""
    run, arms, judging = paired()
    del arms["anchor"]
    for name, results in arms.items():
        plain = [replace(each, scenario=replace(each.scenario, affected_by_edit=False)) for each in results]
        arms[name] = [replace(each, judgements=tuple(_given(each.judgements, place) for place in (0, 1))) for each in plain]
    scores = summarise(arms, 7)
    data = json.loads(json.dumps(build_report(Evaluated(run, GRAPH, arms, scores, {"run": "r"}, judging))))
    chats = [{"arm": name} | transcript_row(each) for name, results in arms.items() for each in results]
    status = {"scores": data["scores"], "verdict": {"result": "Fail", "reasons": ["worse"]}, "usd": "12.5"}
    protocol = Protocol("made-up", lambda at: {}, len(arms["candidate"]), tuple(arms))
    return protocol, Outcome(status, data, render_html(data, GRAPH, arms), chats, 4000)


def test_a_whole_evaluation_has_no_problems_and_its_tables_tell_every_condition(whole: tuple[Protocol, Outcome]) -> None:
    protocol, found = whole
    assert problems(protocol, found, 4000) == []
    told = "\n".join(lines([Measured("made-up", "travel-1", found, 600.4, 120.0, 4000)]))
    assert "| made-up | 120 | 120 | 4 | 480 | 600 | 120 | 4000 | 2000 | 12.5 | Fail |" in told
    assert all(f"| {name} |" in told for name in protocol.arms)


def changed(found: Outcome, change: Change) -> Outcome:
    """The same with something done to a copy of its report."""
    data = json.loads(json.dumps(found.report))
    change(data)
    return replace(found, report=data)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data["arms"]["serving"].update(conversations=119), "serving: 119 conversations and 120 transcripts of 120"),
        (lambda data: data["arms"]["serving"].update(unjudged=2), "serving: 2 conversations were not judged"),
        (lambda data: data["arms"].pop("in-context"), "conditions are candidate, serving, orch"),
        (lambda data: data["against"].pop(), "not compared with each of"),
        (lambda data: data["against"][0]["criteria"]["consistency"].update(p=None), "p by Holm of consistency: p missing"),
        (lambda data: data["against"][0]["criteria"]["consistency"].update(dz=None), "against serving: no d of consistency"),
        (lambda data: data["agreement"].update(kappa={}), "(kappa) of naturalness: mean, low, high missing"),
        (lambda data: data["agreement"]["judges"][1].update(repeatSd=None), "judge gpt-4.1: no variance of repeated judgements"),
        (lambda data: data["labeller"].update(accuracy=None), "accuracy of the labeller: agentTurns was not measured"),
        (lambda data: data["scores"]["statistics"].update(comparisons=[]), "lack a full comparison with the serving version"),
    ],
)
def test_what_is_missing_in_a_report_is_named(whole: tuple[Protocol, Outcome], change: Change, told: str) -> None:
    protocol, found = whole
    assert any(told in each for each in problems(protocol, changed(found, change), 4000))


def test_calls_that_were_not_booked_and_lost_conversations_are_problems(whole: tuple[Protocol, Outcome]) -> None:
    protocol, found = whole
    assert problems(protocol, found, 4001) == ["4001 calls were answered, and the ledger has 4000"]
    chats = [LOST if each is found.transcripts[-1] else each for each in found.transcripts]
    told = problems(protocol, replace(found, transcripts=chats), 4000)
    assert any("in-context, scenario 1: lost (ReadTimeout: )" in each for each in told)


def test_an_evaluation_that_ended_early_is_whole_and_one_that_was_planned_otherwise_is_not(whole: tuple[Protocol, Outcome]) -> None:
    protocol, found = whole
    early = changed(found, lambda data: data["scores"].update(planned=200))
    assert problems(replace(protocol, scenarios=200), early, 4000) == []
    assert problems(replace(protocol, scenarios=200), found, 4000) == ["120 scenarios were planned instead of 200"]
