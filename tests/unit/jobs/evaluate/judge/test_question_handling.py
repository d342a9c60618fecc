"""Questions in between: an agent that answers another question, ends, goes on as if nobody had asked, or makes the answer up."""

import pytest
from tests.unit.jobs.evaluate.judge.trip_booking import BOOKED, CONFIRM, examined_trip, trip_booking

from subterra_api.job_contract.messages import Evaluation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.otherwise import UNKNOWN_QUESTION
from subterra_jobs.evaluate.analysis.robustness_summary import Robustness, question_rows, robustness_rows
from subterra_jobs.evaluate.judge.fabrication import ReplyReader
from subterra_jobs.evaluate.judge.free_words.answers import AnswerReader
from subterra_jobs.evaluate.judge.handling import Handling, HandlingExaminer
from subterra_jobs.evaluate.robustness_run import customer_sources
from subterra_jobs.evaluate.scenarios.robustness import build_robustness

HOURS = "We are open from 9 to 18 o'clock."
FEES = "A late book costs 20 cents a day."
QUESTIONS = [
    {"id": "hours", "question": "When it is open.", "examples": ["When are you open?"], "answer": HOURS},
    {"id": "fees", "question": "What lateness costs.", "examples": ["What are the fees?"], "answer": FEES, "except": ["where"]},
]
ASK, AGAIN = "Hello! Where would you like to go?", "Where would you like to go?"
SPEC = trip_booking(ASK, questions=QUESTIONS, otherwise={"unknownQuestion": ["I don't know that; ask at the desk."]})
GRAPH = Graph(SPEC)
EXAMINER = HandlingExaminer(GRAPH, ReplyReader(GRAPH))


def asked(name: str, *replies: str) -> Handling:
    """A trip to Oslo; the customer asks the question before the first turn of its own."""
    lines = ("Something in between", "Oslo", "Yes, please.")
    return examined_trip(EXAMINER, lines, replies, kind="questions", detour_at=0, asked=name)


@pytest.mark.parametrize(
    "reply",
    [
        f"{HOURS} {AGAIN}",
        f"{HOURS} Now, let's go on. {AGAIN}",
        f"We're open 9 to 18 o'clock. {AGAIN}",
        f"{HOURS} {ASK}",
    ],
)
def test_an_agent_that_answers_and_asks_again_handled_it(reply: str) -> None:
    assert asked("hours", ASK, reply, CONFIRM, BOOKED).handled is True


@pytest.mark.parametrize(
    ("replies", "why"),
    [
        ((f"{FEES} {AGAIN}", CONFIRM, BOOKED), "answered fees, not hours"),
        ((HOURS,), "answered hours, but did not take up its question again"),
        ((f"{HOURS} Goodbye then.",), "answered hours, but did not take up its question again"),
        ((AGAIN, CONFIRM, BOOKED), "gave no answer to hours"),
        ((CONFIRM, BOOKED), "gave no answer to hours"),
        ((f"We are open from 8 to 17 o'clock. {AGAIN}", CONFIRM, BOOKED), "gave no answer to hours"),
        ((), "did not reply to the question hours"),
        ((f"{HOURS} {AGAIN}", BOOKED, BOOKED), "took the step booked where confirm was due"),
    ],
    ids=["another answer", "only the answer", "ends", "ignores it", "goes on", "other figures", "silent", "goes on wrongly"],
)
def test_a_broken_agent_is_caught(replies: tuple[str, ...], why: str) -> None:
    found = asked("hours", ASK, *replies)
    assert (found.handled, found.why) == (False, why)


def test_a_question_without_an_answer_needs_the_procedures_words_for_it() -> None:
    assert asked(UNKNOWN_QUESTION, ASK, f"I don't know that; ask at the desk. {AGAIN}", CONFIRM, BOOKED).handled is True
    assert asked(UNKNOWN_QUESTION, ASK, f"{HOURS} {AGAIN}", CONFIRM, BOOKED).why == f"answered hours, not {UNKNOWN_QUESTION}"


def test_similarity_recognizes_other_words_but_no_other_figures() -> None:
    class Encoder:
        """Finds every text similar to the opening hours."""

        name = "stand-in"

        def encode(self, texts):  # type: ignore[no-untyped-def]
            import numpy as np

            return np.array([[1.0, 0.0] if "9" in text or text.startswith("we") else [0.6, 0.8] for text in texts])

    reader = AnswerReader(SPEC, Encoder())
    assert reader.read("You can come between 9 and 18. Where would you like to go?", ASK).names == {"hours"}
    assert reader.read("You can come between 8 and 17. Where would you like to go?", ASK).names.isdisjoint({"hours"})


def test_the_evaluation_asks_every_question_and_unknown_ones_at_open_turns_and_reports_each() -> None:
    settings = Evaluation(simulator=Provider(), judge=Provider(), scenarios=100, seed=7)
    block = build_robustness(GRAPH, settings, customer_sources(GRAPH))
    questions = [each for each in block.scenarios if each.kind == "questions"]
    assert {each.asked for each in questions} == {"hours", "fees", UNKNOWN_QUESTION}
    assert {each.detour_at for each in questions if each.asked == "hours"} == {0, 1}
    assert {each.detour_at for each in questions if each.asked == "fees"} == {1}
    handled = Robustness((asked("hours", ASK, f"{HOURS} {AGAIN}", CONFIRM, BOOKED), asked("hours", ASK, CONFIRM)))
    assert [(row["kind"], row["hits"], row["of"]) for row in robustness_rows(handled)][-1] == ("questions", 1, 2)
    rows = {row["name"]: (row["hits"], row["of"], row["share"] is None) for row in question_rows(handled, SPEC)}
    assert rows == {"hours": (1, 2, False), "fees": (0, 0, True), UNKNOWN_QUESTION: (0, 0, True)}


def test_a_small_evaluation_says_why_questions_are_not_tested_and_a_procedure_without_any_has_no_row() -> None:
    settings = Evaluation(simulator=Provider(), judge=Provider(), scenarios=1, seed=7)
    block = build_robustness(GRAPH, settings, customer_sources(GRAPH))
    assert block.untested["questions"] == "too few scenarios; raise evaluation.scenarios"
    rows = robustness_rows(Robustness((), block.untested))
    assert rows[-1]["untested"] == "too few scenarios; raise evaluation.scenarios"
    plain = SPEC.model_copy(update={"questions": (), "otherwise": SPEC.otherwise.model_copy(update={"unknown_question": ()})})
    without = build_robustness(Graph(plain), settings, customer_sources(Graph(plain)))
    assert "questions" not in {row["kind"] for row in robustness_rows(Robustness((), without.untested))}
