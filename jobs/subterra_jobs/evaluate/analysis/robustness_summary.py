"""Fabrication over all conversations of the candidate, and how it handled robustness customers, by kind. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_api.v1alpha1.scores import Proportion, RobustnessKind, RobustnessScore
from subterra_core.procedure.otherwise import UNKNOWN_QUESTION, asks_questions, questions_by_name
from subterra_jobs.evaluate.analysis.statistics import share_interval
from subterra_jobs.evaluate.judge.fabrication import count_fabricated
from subterra_jobs.evaluate.judge.handling import Handling
from subterra_jobs.evaluate.judge.results import JudgingQuality, Result
from subterra_jobs.evaluate.scenarios.robustness import KINDS

NEVER_CAME = "no conversation came to what these customers test"
SHOWN = 2
"""Conversations shown of each kind, of those that were not handled."""
TITLES: Mapping[RobustnessKind, str] = {
    "phrasings": "Says everything in words that no training conversation has",
    "unknownValues": "Names a value that is not in the list",
    "realValues": "Names real places, people and products",
    "offTopic": "Says something else in between",
    "corrections": "Gives a wrong value and corrects it at once",
    "afterEnd": "Goes on after the end",
    "questions": "Asks a question in between",
}


@dataclass(frozen=True)
class Robustness:
    """The candidate's conversations with robustness customers, and the reason for each kind that was not tested."""

    handlings: tuple[Handling, ...] = ()
    untested: Mapping[RobustnessKind, str] = field(default_factory=dict)
    labelling: JudgingQuality | None = None
    """The labeller of words that rules do not recognize, if the agent speaks such words."""

    def tested(self, kind: RobustnessKind) -> list[Handling]:
        """Conversations of a kind that came to what it tests."""
        return [each for each in self.handlings if each.kind == kind and each.handled is not None]

    def scores(self) -> tuple[RobustnessScore, ...]:
        """Counts of all kinds."""
        planned = {each.kind for each in self.handlings}.union(self.untested)
        kinds = [kind for kind in KINDS if kind != "questions" or kind in planned]  # few procedures have questions
        counts = {kind: [each.handled for each in self.tested(kind)] for kind in kinds}
        return tuple(RobustnessScore(kind=kind, hits=handled.count(True), of=len(handled)) for kind, handled in counts.items())


def fabrication(results: Sequence[Result], robustness: Robustness) -> Proportion:
    """Values that nobody gave, of all values that the candidate asserted."""
    conforming = [result.assertions for result in results]
    return count_fabricated([*conforming, *(handling.assertions for handling in robustness.handlings)])


def robustness_rows(robustness: Robustness) -> list[dict[str, Any]]:
    """A row of the report for each kind, with conversations that the agent did not handle."""
    return [_row(robustness, score) for score in robustness.scores()]


def _row(robustness: Robustness, score: RobustnessScore) -> dict[str, Any]:
    failed = [each for each in robustness.tested(score.kind) if not each.handled]
    return {
        **score.model_dump(),
        "title": TITLES[score.kind],
        "share": share_interval(score.hits, score.of).model_dump() if score.of else None,
        "untested": None if score.of else robustness.untested.get(score.kind, NEVER_CAME),
        "failed": [handling_row(each) for each in failed[:SHOWN]],
    }


def question_rows(robustness: Robustness, spec: ProcedureSpec) -> list[dict[str, Any]]:
    """A row of the report for each question: how often it was asked in between, and how often that was handled."""
    handled: defaultdict[str, list[bool]] = defaultdict(list)
    for each in robustness.tested("questions"):
        handled[each.scenario.asked].append(bool(each.handled))
    questions = {name: each.question for name, each in questions_by_name(spec).items()}
    questions |= {UNKNOWN_QUESTION: "Something that has no answer."} if asks_questions(spec) else {}
    return [
        {"name": name, "question": text, "hits": sum(handled[name]), "of": len(handled[name]), "share": _share_of(handled[name])}
        for name, text in questions.items()
    ]


def _share_of(handled: Sequence[bool]) -> dict[str, Any] | None:
    return share_interval(sum(handled), len(handled)).model_dump() if handled else None


def handling_row(handling: Handling) -> dict[str, Any]:
    """A conversation with a robustness customer."""
    made_up = [(each.turn, each.variable, each.said) for each in handling.assertions if not each.given]
    turns, at = list[dict[str, Any]](), 0
    for message in handling.conversation.chat:
        turn: dict[str, Any] = {"role": message["role"], "text": message["content"]}
        if message["role"] == "assistant":
            turn["madeUp"] = [{"variable": variable, "said": said} for number, variable, said in made_up if number == at]
            at += 1
        turns.append(turn)
    return {
        "id": handling.scenario.id,
        "kind": handling.kind,
        **({"asked": handling.scenario.asked} if handling.scenario.asked else {}),
        "handled": handling.handled,
        "why": handling.why,
        "path": list(handling.scenario.path),
        "values": handling.scenario.values,
        "error": handling.conversation.error,
        "turns": turns,
    }
