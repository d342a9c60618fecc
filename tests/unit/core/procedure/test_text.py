"""The procedure as text for models."""

from subterra_core.procedure.text import flowchart_text
from subterra_testkit.procedures import after, agent, end, procedure, user


def test_a_node_that_history_decides_says_in_which_order_its_edges_are_tried() -> None:
    hub = agent("tried", "offer", {"to": "bye", "when": None}, after("human", "ask", "tried", when=None), decidedBy="history")
    hub["next"] = [{key: value for key, value in edge.items() if key != "when"} for edge in hub["next"]]
    text = flowchart_text(
        procedure(agent("hello", "ask"), user("ask", "tried", "bye"), hub, agent("offer", "ask"), end(), end("human"))
    )
    assert "  -> offer when: first choice\n" in text
    assert "  -> bye when: if the edges above are used up or closed\n" in text
    assert "  -> human when: The customer wants human.; ask went to tried last" not in text
    assert "  -> human when: if the edges above are used up or closed; ask went to tried last" in text


def test_edges_that_nothing_decides_have_no_condition() -> None:
    text = flowchart_text(procedure(agent("hello", {"to": "bye"}), end()))
    assert text.splitlines()[2] == "  -> bye"
