"""One comparison of two versions answers what an edit affects and what it makes write again."""

from typing import Any

import pytest

from subterra_api.digest import canonical, significant_fields
from subterra_api.v1alpha1.procedure import Knowledge, Otherwise, ProcedureSpec
from subterra_core.procedure.diff import ProcedureDiff, stored_procedure
from subterra_testkit.runs.generation_inputs import example

TRAVEL = example("travel")
DIRECT = ("greet", "ask_trip", "trip", "options", "choice", "goodbye")
BUDGETED = ("greet", "ask_trip", "trip", "ask_budget", "budget", "options", "choice", "goodbye")


def with_node(name: str, **changes: Any) -> ProcedureSpec:
    return TRAVEL.model_copy(
        update={"nodes": tuple(node.model_copy(update=changes) if node.id == name else node for node in TRAVEL.nodes)}
    )


def with_variable(name: str, **changes: Any) -> ProcedureSpec:
    return TRAVEL.model_copy(
        update={
            "variables": tuple(
                variable.model_copy(update=changes) if variable.name == name else variable for variable in TRAVEL.variables
            )
        }
    )


def touched(before: ProcedureSpec | None, path: tuple[str, ...]) -> bool:
    return ProcedureDiff(before, TRAVEL).affects(path)


def node(name: str) -> Any:
    return next(each for each in TRAVEL.nodes if each.id == name)


def test_without_an_edit_nothing_is_touched() -> None:
    assert not touched(TRAVEL, DIRECT)


def test_a_reference_of_an_unknown_procedure_is_touched_everywhere() -> None:
    assert touched(None, DIRECT)


def test_an_edited_prompt_touches_the_paths_through_its_node() -> None:
    before = with_node("ask_budget", prompt="Ask how rich they are.")
    assert touched(before, BUDGETED)
    assert not touched(before, DIRECT)


def test_another_way_out_of_a_hub_touches_every_path_through_the_hub() -> None:
    before = with_node("choice", next=node("choice").next[:-1])
    assert touched(before, DIRECT)


def test_how_often_a_way_is_taken_in_training_touches_nothing() -> None:
    heavier = tuple(edge.model_copy(update={"weight": edge.weight + 5}) for edge in node("choice").next)
    assert not touched(with_node("choice", next=heavier), DIRECT)


def test_another_variable_touches_the_paths_that_mention_it() -> None:
    before = with_variable("wish", values=("cheaper",))
    assert not touched(before, ("greet", "ask_trip"))
    assert touched(before, ("greet", "choice"))


@pytest.mark.parametrize(
    "change",
    [
        {"knowledge": (Knowledge(id="k", text="We never close."),)},
        {"variables": tuple(v.model_copy(update={"visibility": "context"}) for v in TRAVEL.variables)},
        {"start": "ask_trip"},
    ],
    ids=["knowledge", "context", "start"],
)
def test_what_concerns_every_conversation_touches_every_path(change: dict[str, Any]) -> None:
    assert touched(TRAVEL.model_copy(update=change), DIRECT)


@pytest.mark.parametrize("field", ["system_prompt", "openers", "personas"])
def test_what_decides_nothing_touches_nothing(field: str) -> None:
    other = {"system_prompt": "You are somebody else.", "openers": ("Yo",), "personas": ()}[field]
    assert not touched(TRAVEL.model_copy(update={field: other}), DIRECT)


def test_a_path_is_rewritten_from_the_first_changed_turn_on() -> None:
    diff = ProcedureDiff(with_node("ask_budget", prompt="Ask how rich they are."), TRAVEL)
    assert diff.must_rewrite(BUDGETED) == BUDGETED[3:]
    assert diff.must_rewrite(DIRECT) == ()


def test_weights_rewrite_nothing_and_the_system_prompt_rewrites_everything() -> None:
    heavier = tuple(edge.model_copy(update={"weight": edge.weight + 5}) for edge in node("choice").next)
    assert ProcedureDiff(with_node("choice", next=heavier), TRAVEL).must_rewrite(DIRECT) == ()
    other = TRAVEL.model_copy(update={"system_prompt": "You are somebody else."})
    assert ProcedureDiff(other, TRAVEL).must_rewrite(DIRECT) == DIRECT


def test_words_for_what_the_flowchart_lacks_are_a_change_that_rewrites_no_turn() -> None:
    diff = ProcedureDiff(TRAVEL.model_copy(update={"otherwise": Otherwise(off_topic=("I only book trips.",))}), TRAVEL)
    assert diff.settings == ("otherwise",)
    assert (diff.affects(BUDGETED), diff.must_rewrite(BUDGETED)) == (False, ())


def test_an_unknown_old_version_rewrites_everything() -> None:
    assert ProcedureDiff(None, TRAVEL).must_rewrite(DIRECT) == DIRECT


def test_a_model_knows_what_it_was_stored_procedure() -> None:
    assert stored_procedure(TRAVEL.model_dump_json(by_alias=True).encode()) == TRAVEL
    assert stored_procedure(canonical(significant_fields(TRAVEL))) == TRAVEL
    assert stored_procedure(b"{}") is None
    assert stored_procedure(b"{") is None
    assert stored_procedure(None) is None
