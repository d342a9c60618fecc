"""A shop's agent in LangGraph, as people write them: conditional edges by label, a loop, a Command, an end in between."""

from typing import Literal, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command


class State(TypedDict):
    text: str


def welcome(state: State) -> State:
    """Greet the customer and ask for the order's number."""
    return state


def look_up(state: State) -> State:
    """Find the order and say where it is."""
    return state


def refund(state: State) -> Command[Literal["look up", "colleague"]]:
    """Offer the money back."""
    return Command(goto="colleague")


def colleague(state: State) -> State:
    return state


def known(state: State) -> str:
    return "found" if state["text"] else "missing"


def satisfied(state: State) -> str:
    return "money back"


def anywhere(state: State) -> str:
    return "colleague"


def builder() -> "StateGraph[State]":
    graph = StateGraph(State)
    graph.add_node(welcome)
    graph.add_node("look up", look_up)
    graph.add_node(refund)
    graph.add_node(colleague)
    graph.add_edge(START, "welcome")
    graph.add_conditional_edges("welcome", known, {"found": "look up", "missing": "welcome"})
    graph.add_conditional_edges("look up", satisfied, {"money back": "refund", "fine": END, "thanks": END})
    graph.add_edge("colleague", END)
    return graph


graph = builder().compile()
number = 7


def with_an_unknown_way() -> object:
    """Its routing function does not say where it may go."""
    vague = builder()
    vague.add_node("vague", look_up)
    vague.add_edge("colleague", "vague")
    vague.add_conditional_edges("vague", anywhere)
    return vague.compile()
