"""What a conversation would cost without a compiled model. Pure; nothing is called.

Tokens are those that the evaluation counted with the compiled model. A model in context reads the whole procedure before each
turn as well. From a cache it reads everything but what is new since the turn before. An orchestrator calls the model once a turn
with one node of the procedure, and once at each hub to choose the way.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from subterra_core.pricing import TokenPrice, call_cost

Comparator = Literal["InContext", "InContextCached", "Orchestrator", "SameModelInContext"]


@dataclass(frozen=True)
class Workload:
    """Tokens of a mean conversation. The compiled model reads its system prompt and the conversation so far at each turn."""

    turns: Decimal
    prompt_tokens: Decimal
    """Read by the compiled model, over all turns."""
    completion_tokens: Decimal
    procedure_tokens: Decimal
    """The procedure as one prompt."""
    tokens_factor: Decimal = Decimal(1)
    """Tokens of the comparator's model for a token of the compiled one."""

    @property
    def in_context(self) -> Decimal:
        """Tokens that a model in context reads."""
        return self.tokens_factor * (self.prompt_tokens + self.turns * self.procedure_tokens)

    @property
    def new_tokens(self) -> Decimal:
        """Those of them that no earlier turn had: the procedure and the whole conversation once.

        The conversation grows evenly, so it is `2 / (turns + 1)` of what the compiled model read in all.
        """
        conversation = 2 * self.prompt_tokens / (self.turns + 1)
        return min(self.in_context, self.tokens_factor * (self.procedure_tokens + conversation))


def in_context(price: TokenPrice, work: Workload, *, cached: bool = False) -> Decimal:
    """US dollars of a conversation with the whole procedure in the system prompt."""
    written = work.tokens_factor * work.completion_tokens
    if not cached:
        return call_cost(price, work.in_context, written)
    read = work.in_context - work.new_tokens
    return call_cost(price, 0, written, cache_write=work.new_tokens, cache_read=read)


def orchestrated(price: TokenPrice, work: Workload, hubs: Decimal, nodes: Decimal, choice_tokens: Decimal = Decimal(10)) -> Decimal:
    """US dollars of a conversation that code steers through `nodes` nodes, with a call more at each of `hubs` hubs on the way."""
    per_turn = work.prompt_tokens / max(work.turns, Decimal(1))
    node = work.procedure_tokens / max(nodes, Decimal(1))
    read = work.prompt_tokens + (work.turns + hubs) * node + hubs * per_turn
    return call_cost(price, work.tokens_factor * read, work.tokens_factor * (work.completion_tokens + hubs * choice_tokens))


def ratio(compared: Decimal, compiled: Decimal) -> Decimal | None:
    """How many times the compiled price the comparator costs; `None` if the compiled one costs nothing."""
    return compared / compiled if compiled > 0 else None
