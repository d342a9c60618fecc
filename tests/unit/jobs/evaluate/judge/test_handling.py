"""Whether an agent handled customers who say what the examples do not have."""

import pytest
from tests.unit.jobs.evaluate.judge.trip_booking import BOOKED, CONFIRM, examined_trip, trip_booking

from subterra_api.v1alpha1.scores import RobustnessKind
from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.analysis.robustness_summary import NEVER_CAME, Robustness, robustness_rows
from subterra_jobs.evaluate.judge.fabrication import ReplyReader
from subterra_jobs.evaluate.judge.handling import Handling, HandlingExaminer

ASK = "Where would you like to go?"
GRAPH = Graph(trip_booking(ASK))
OTHERWISE = "Only the towns in our list, sorry."
EXAMINER = HandlingExaminer(GRAPH, ReplyReader(GRAPH), lambda spec, reply, before: "unknownValue" if reply == OTHERWISE else None)


def examined(kind: RobustnessKind, *replies: str, at: int | None = None, unlisted: str = "", error: str | None = None) -> Handling:
    """A trip to Oslo, with a detour before the customer's line number `at`."""
    lines = ["Oslo", "Yes, please."]
    if at is not None:
        lines.insert(at, unlisted or "Is it raining there?")
    return examined_trip(EXAMINER, lines, replies, error, kind=kind, detour_at=at, unlisted=unlisted)


@pytest.mark.parametrize("kind", ["phrasings", "realValues", "corrections"])
def test_whoever_goes_the_right_way_to_the_end_handled_it(kind: RobustnessKind) -> None:
    assert examined(kind, ASK, CONFIRM, BOOKED).handled is True


def test_a_wrong_step_is_not_handled_and_named() -> None:
    found = examined("phrasings", ASK, "What was that?", BOOKED)
    assert (found.handled, found.why) == (False, "gave a reply that matches no step of the procedure where confirm was due")


def test_a_value_that_was_corrected_must_be_the_right_one() -> None:
    found = examined("corrections", ASK, "Great, Riga it is. Shall I book Riga?", BOOKED)
    assert (found.handled, found.why) == (False, "said “Riga” for city, not “Oslo”")


@pytest.mark.parametrize(
    "reply",
    [ASK, OTHERWISE, "I do not know that town.", "Great, Atlantis it is. Shall I book Atlantis?"],
    ids=["asks again", "the author's words", "other words", "repeats it"],
)
def test_an_unlisted_value_is_handled_without_another_one(reply: str) -> None:
    assert examined("unknownValues", ASK, reply, CONFIRM, BOOKED, at=0, unlisted="Atlantis").handled is True


@pytest.mark.parametrize("town", ["Riga", "Oslo"], ids=["another value", "the value that the customer says only later"])
def test_a_listed_value_in_place_of_an_unlisted_one_is_made_up(town: str) -> None:
    found = examined("unknownValues", ASK, f"Great, {town} it is. Shall I book {town}?", CONFIRM, BOOKED, at=0, unlisted="Atlantis")
    assert (found.handled, found.why) == (False, f"asserted “{town}” for city, which nobody gave")


def test_a_terminal_that_confirms_what_nobody_said_is_made_up_too() -> None:
    found = examined("unknownValues", ASK, ASK, CONFIRM, "Your trip to Riga is booked.", at=0, unlisted="Atlantis")
    assert found.handled is False


def test_going_on_without_a_word_about_an_unlisted_value_is_not_handled() -> None:
    found = examined("unknownValues", ASK, "Goodbye then.", at=0, unlisted="Atlantis")
    assert (found.handled, found.why) == (False, "went on as if the value were in the list")


def test_after_something_off_topic_the_agent_must_come_back() -> None:
    assert examined("offTopic", ASK, "I only book trips.", CONFIRM, BOOKED, at=0).handled is True
    assert examined("offTopic", ASK, CONFIRM, BOOKED, BOOKED, at=0).handled is False
    assert (
        examined("offTopic", ASK, CONFIRM, "It rains in Riga.", BOOKED, at=1).why == "asserted “Riga” for city, which nobody gave"
    )


def test_after_the_end_the_agent_stays_there() -> None:
    assert examined("afterEnd", ASK, CONFIRM, BOOKED, "Goodbye!", at=2).handled is True
    assert examined("afterEnd", ASK, CONFIRM, BOOKED, BOOKED, at=2).handled is True
    assert examined("afterEnd", ASK, CONFIRM, BOOKED, ASK, at=2).why == "took the step ask after the end"
    assert examined("afterEnd", ASK, CONFIRM, BOOKED, "Riga is nice too.", at=2).handled is False


def test_a_conversation_that_never_ended_tests_nothing_after_the_end() -> None:
    assert examined("afterEnd", ASK, ASK, ASK, ASK, at=2).handled is None


def test_a_failed_conversation_was_not_handled() -> None:
    assert examined("phrasings", ASK, error="the context is full").why == "simulation failed: the context is full"


def test_counts_and_two_conversations_of_each_kind_are_reported() -> None:
    good, bad = examined("phrasings", ASK, CONFIRM, BOOKED), examined("phrasings", ASK, ASK, ASK)
    never = examined("afterEnd", ASK, ASK, ASK, ASK, at=2)
    rows = robustness_rows(Robustness((good, bad, bad, bad, never), {"realValues": "there is no open value"}))
    by_kind = {row["kind"]: row for row in rows}
    assert (by_kind["phrasings"]["hits"], by_kind["phrasings"]["of"], len(by_kind["phrasings"]["failed"])) == (1, 4, 2)
    assert by_kind["phrasings"]["share"]["high"] < 0.7
    assert by_kind["realValues"]["untested"] == "there is no open value"
    assert (by_kind["afterEnd"]["of"], by_kind["afterEnd"]["untested"]) == (0, NEVER_CAME)
