"""Customers who say what the examples do not have: how many there are, and what each of them says."""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import pytest

from subterra_api.job_contract.messages import Evaluation
from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_api.v1alpha1.procedure import ProcedureSpec, Variable
from subterra_api.v1alpha1.scores import Proportion, RobustnessKind
from subterra_core.gate.attempts import ALPHA, alpha_for_attempt
from subterra_core.gate.bounds import proportion_bounds
from subterra_core.procedure.graph import Graph, Path
from subterra_jobs.evaluate.judge.fabrication import ReplyReader
from subterra_jobs.evaluate.robustness_run import ENDED_EARLY, SPEAKS_FREELY, playable
from subterra_jobs.evaluate.scenarios.build import build_scenarios
from subterra_jobs.evaluate.scenarios.robustness import (
    KINDS,
    NO_PLACE,
    CustomerSources,
    DetourKind,
    RobustnessBlock,
    build_robustness,
    customers_by_kind,
)
from subterra_testkit.procedures import agent, end, procedure, shop, user
from subterra_testkit.runs.generation_inputs import travel
from subterra_testkit.runs.reports import judged_by_rules, scripted_conversation

TRAVEL = Graph(travel())


@dataclass(frozen=True)
class Detour:
    at: int
    customer: str
    value: str = ""


class Phrasing:
    def line(self, node: str, taken: str | None, values: Mapping[str, str], rng: random.Random) -> str:
        return f"{node} → {taken}"

    def opener(self, opener: str, rng: random.Random) -> str:
        return opener.upper()


def draw_detour(
    graph: Graph, path: Path, values: Mapping[str, str], kind: DetourKind, rng: random.Random, *, held_out: bool
) -> Detour | None:
    return Detour(1, f"{kind}, held out: {held_out}", "Atlantis") if len(path) > 6 else None


def real_values(variable: Variable, *, held_out: bool) -> tuple[str, ...]:
    return ("Ouagadougou", "Reykjavík") if variable.name == "destination" else ()


SOURCES = CustomerSources(Phrasing(), ("{other}, or rather {value}",), draw_detour, real_values)


def settings(scenarios: int = 420, judge: str = "scripted") -> Evaluation:
    scripted = {"name": "scripted"}
    chosen = scripted if judge == "scripted" else {"name": "anthropic", "model": judge}
    return Evaluation.model_validate({"simulator": scripted, "judge": chosen, "scenarios": scenarios, "seed": 7})


@cache
def built(spec: ProcedureSpec | None = None) -> RobustnessBlock:
    """The customers, made once for all tests; none of them changes it."""
    return build_robustness(Graph(spec) if spec else TRAVEL, settings(), SOURCES)


def test_there_are_two_thirds_as_many_as_conforming_customers_at_most_without_those_who_ask_questions() -> None:
    full = dict.fromkeys(KINDS, 30) | {"phrasings": 120, "questions": 60}
    assert customers_by_kind(420) == customers_by_kind(5000) == full
    for conforming in (1, 10, 100, 200, 300):
        counts = customers_by_kind(conforming)
        assert 3 * (sum(counts.values()) - counts["questions"]) <= 2 * conforming
        assert 5 * sum(counts.values()) <= 4 * conforming


def test_at_the_default_size_phrasings_of_which_five_in_six_are_followed_pass_the_default_floor() -> None:
    of = customers_by_kind(200)["phrasings"]
    followed = proportion_bounds(Proportion(hits=of * 5 // 6, of=of), alpha_for_attempt(ALPHA, 1))
    assert followed.low >= GatePolicy().min_phrasings


def test_every_kind_is_built_and_the_same_again() -> None:
    block = built()
    planned = customers_by_kind(420)
    assert planned.pop("questions") == 60  # travel has none
    assert Counter(each.kind for each in block.scenarios) == planned
    assert block.untested == {}
    assert built.__wrapped__() == block
    assert len({each.id for each in block.scenarios}) == len(block.scenarios)


def of_kind(kind: RobustnessKind, block: RobustnessBlock | None = None) -> list[tuple[str, ...]]:
    return [each.lines for each in (block or built()).scenarios if each.kind == kind]


def test_phrasings_come_from_their_source_alone() -> None:
    for lines in of_kind("phrasings"):
        assert all(" → " in line or line.isupper() for line in lines)


def test_real_values_are_said_and_known_as_the_right_ones() -> None:
    for each in built().scenarios:
        if each.kind == "realValues":
            assert each.values["destination"] in ("Ouagadougou", "Reykjavík")
            assert any(each.values["destination"] in line for line in each.lines)


def test_detours_are_held_out_and_stand_where_they_were_drawn() -> None:
    for each in built().scenarios:
        if each.kind in ("unknownValues", "offTopic"):
            assert each.detour_at == 1
            assert each.lines[1].endswith("held out: True")
            assert each.unlisted == "Atlantis"
        elif each.kind == "afterEnd":
            assert each.detour_at == len(each.lines) - 1
            assert each.lines[-1] == "after end, held out: True"


def test_a_correction_has_the_wrong_value_before_the_right_one() -> None:
    for each in built().scenarios:
        if each.kind == "corrections":
            [(before, after)] = [line.split(", or rather ") for line in each.lines if ", or rather " in line]
            [right] = [value for value in each.values.values() if after.startswith(value)][:1]
            assert not before.endswith(right)


def test_a_kind_that_the_procedure_has_no_place_for_says_so() -> None:
    spec = shop({"to": "sell", "when": "The customer buys.", "examples": ["Yes."]})
    found = built(spec).untested
    assert found["realValues"] == NO_PLACE["realValues"]
    assert found["corrections"] == NO_PLACE["corrections"]
    assert found["unknownValues"] == NO_PLACE["unknownValues"]


def test_a_procedure_without_examples_is_not_tested_and_the_reason_names_the_node() -> None:
    bare = procedure(agent("hello", "ask"), user("ask", "bye"), end())
    assert "node ask has no examples" in built(bare).untested["corrections"]


@pytest.fixture(scope="module")
def reader() -> ReplyReader:
    return ReplyReader(TRAVEL)


def test_after_an_early_end_nobody_else_is_simulated(reader: ReplyReader) -> None:
    block = playable(built(), settings(), reader, [])
    assert block.scenarios == ()
    assert set(block.untested.values()) == {ENDED_EARLY}


@pytest.mark.parametrize(("judge", "damage"), [("scripted", "garbled"), ("claude-sonnet-4-5", "none")])
def test_steps_are_checked_where_rules_judge_or_recognize_the_replies(reader: ReplyReader, judge: str, damage: str) -> None:
    chosen = settings(20, judge)
    results = [judged_by_rules(each, scripted_conversation(each, damage)) for each in build_scenarios(TRAVEL, chosen)]
    assert playable(built(), chosen, reader, results) == built()


def test_of_an_agent_that_speaks_freely_only_the_values_are_checked(reader: ReplyReader) -> None:
    chosen = settings(20, "claude-sonnet-4-5")
    results = [judged_by_rules(each, scripted_conversation(each, "garbled")) for each in build_scenarios(TRAVEL, chosen)]
    block = playable(built(), chosen, reader, results)
    assert {each.kind for each in block.scenarios} == {"unknownValues"}
    assert block.untested == {kind: SPEAKS_FREELY for kind in KINDS if kind not in ("unknownValues", "questions")}
