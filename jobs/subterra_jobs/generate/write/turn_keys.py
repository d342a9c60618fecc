"""Names a paid answer by everything that determines it, so that it is paid once and an edit pays only for what it changes. Pure.

The key of a turn holds the key of the turn before, the very prompt that is sent, and all `when` texts of a hub: the customer's
words must tell one branch from the others, so they depend on those that are not taken too. What a prompt does not show (names of
nodes, weights, the deployed system prompt) is in no key.
"""

from subterra_api.digest import meaning
from subterra_api.job_contract.defaults import WRITER_VERSION
from subterra_api.v1alpha1.compilerun import Provider
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import render
from subterra_jobs.generate.plan.plan import Slot
from subterra_jobs.llm.client import TURN_TOKENS, Request
from subterra_jobs.llm.response_cache import key_of


def turns_path(teacher: Provider) -> str:
    """Where the answers of a teacher are, relative to the store: those of another model, or written otherwise, are never reused."""
    return f"turns/{key_of(WRITER_VERSION, TURN_TOKENS, meaning(teacher))}"


class TurnKeys:
    """Keys for one procedure, within the folder of one teacher."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def turn(self, slot: Slot, before: tuple[str, ...], request: Request, attempt: int) -> str:
        """The key of the turn that comes after the turns with the keys ``before``, written for the ``attempt``-th time."""
        node = self._graph.nodes[slot.path[len(before)]]
        whens = sorted(render(edge.when, slot.values) for edge in node.next if edge.when) if len(node.next) > 1 else []
        return key_of(slot.id, slot.seed, before[-1:], request.system, request.messages[0]["content"], whens, attempt)

    def reading(self, slot: Slot, turn: str, request: Request) -> str:
        """The key of what a blind reader makes of a turn."""
        return key_of(slot.id, slot.seed, turn, request.system, request.messages[0]["content"])
