"""Cache keys of a teacher's responses: everything a response depends on, so an edit pays only for what it changes. Pure.

The key of a turn covers the previous turn's key, the exact prompt, and all `when` texts of a hub: the customer's words must
distinguish one branch from the others, so they also depend on those not taken. What a prompt does not show (node names, weights,
the deployed system prompt) is in no key.
"""

from subterra_api.job_contract.defaults import WRITER_VERSION
from subterra_api.v1alpha1.compilerun import Provider
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import render
from subterra_jobs.dialogue.turn_limit import TURN_TOKENS
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.llm.behavior.thinking import request_fields
from subterra_jobs.llm.client import Request
from subterra_jobs.llm.response_cache import cache_key


def turns_path(teacher: Provider) -> str:
    """The folder of a teacher's responses, relative to the store. Other models and writer versions have other folders."""
    return f"turns/{cache_key(WRITER_VERSION, TURN_TOKENS, request_fields(teacher))}"


class TurnKeys:
    """Keys for one procedure, within the folder of one teacher."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def turn(self, spec: ConversationSpec, previous_keys: tuple[str, ...], request: Request, attempt: int) -> str:
        """The key of attempt ``attempt`` at the turn that follows the turns with ``previous_keys``."""
        node = self._graph.nodes[spec.path[len(previous_keys)]]
        whens = sorted(render(edge.when, spec.values) for edge in node.next if edge.when) if len(node.next) > 1 else []
        return cache_key(spec.id, spec.seed, previous_keys[-1:], request.system, request.messages[0]["content"], whens, attempt)

    def question(self, spec: ConversationSpec, previous_keys: tuple[str, ...], request: Request, attempt: int) -> str:
        """The key of attempt ``attempt`` at a question that is asked after the turns with ``previous_keys``."""
        content = request.messages[0]["content"]
        return cache_key("question", spec.id, spec.seed, previous_keys[-1:], request.system, content, attempt)

    def reading(self, spec: ConversationSpec, turn_key: str, request: Request) -> str:
        """The key of a blind reader's guess about a turn."""
        return cache_key(spec.id, spec.seed, turn_key, request.system, request.messages[0]["content"])
