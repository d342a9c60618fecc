"""Customers of procedures with a `style`, for teachers that are models. Pure.

Persona, manner of typing, twist and challenge are independent: each has a low-discrepancy sequence of its own. A manner of typing
says nothing that a persona could contradict; only procedures without personas have the general styles. Nobody mentions early what
the agent has to ask next, and no greeting is returned, since the agent's first words would stand twice.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from subterra_api.v1alpha1.procedure import Variable
from subterra_core.procedure.dependencies import bounds_of
from subterra_core.procedure.graph import Graph, Path
from subterra_core.procedure.template import render, variables_of
from subterra_core.procedure.tools import argument_variables
from subterra_jobs.dialogue.anywhere_paths import leaves_at
from subterra_jobs.dialogue.sampling import sample_values
from subterra_jobs.generate.plan.customer_style import (
    OPENER_SHARE,
    STYLES,
    Challenge,
    ChallengeKind,
    CustomerStyle,
    Twist,
    draw_twist,
    possible_twists,
)
from subterra_jobs.generate.plan.hash_random import index_at, rng, unit_hash

TWIST_SHARE = 0.12
CHALLENGE_SHARE = 0.24
"""Share of the conversations in which the customer changes their mind, contradicts what was said, or can be misunderstood."""
CHALLENGES: tuple[ChallengeKind, ...] = ("change of mind", "ambiguity", "contradiction")
MANNERS = (
    "types with care",
    "types fast, in small letters and with few marks",
    "makes a typing error now and then, and leaves it",
    "uses everyday words and contractions",
)
_STEPS = {"persona": 5, "style": 2, "twist": 3, "challenge": 7}
"""The square roots of these are independent, so that the sequences fill the space of all combinations evenly."""
_TRIES = 20


def draw_styled_customer(graph: Graph, path: Path, values: Mapping[str, str], index: int, *key: object) -> CustomerStyle:
    """The customer number ``index`` among those that share all of ``key`` but its last part."""
    spec, draw, group = graph.spec, rng(*key, "speaker"), key[:-1]

    def point(kind: str) -> float:
        return (unit_hash(*group, kind) + index * math.sqrt(_STEPS[kind])) % 1

    opens = graph.nodes[spec.start].role == "agent" and bool(spec.openers) and draw.random() < OPENER_SHARE
    opener = render(draw.choice(spec.openers), values) if opens else None
    personas, styles = spec.personas, MANNERS if spec.personas else STYLES
    persona = personas[index_at(point("persona"), [each.weight for each in personas])].name if personas else None
    challenge = _draw_challenge(graph, path, values, *key) if point("challenge") < CHALLENGE_SHARE else None
    twisted = challenge is None and point("twist") < TWIST_SHARE / (1 - CHALLENGE_SHARE)
    style = styles[index_at(point("style"), [1] * len(styles))]
    return CustomerStyle(
        opener, persona, style, draw_twist(_plain_twists(graph, path), *key) if twisted else None, challenge=challenge
    )


def _draw_challenge(graph: Graph, path: Path, values: Mapping[str, str], *key: object) -> Challenge | None:
    """A challenge after the customer's first turn; one about a value if the customer has said one that decides nothing."""
    draw = rng(*key, "challenge")
    roles = ["", *(graph.nodes[node].role for node in path)]
    turns = [
        position
        for position, (before, role) in enumerate(pairwise(roles))
        if role == "user" != before and not leaves_at(graph, path, position)
    ]
    if len(turns) < 2:
        return None
    kind, position = draw.choice(CHALLENGES), draw.choice(turns[1:])
    if kind == "ambiguity":
        return Challenge(kind, position)
    free = _free_variables(graph, path[: position + 1])
    for variable in [draw.choice(free) for _ in range(_TRIES) if free]:
        other = sample_values([variable], draw, unseen=False, kind="real")[variable.name]
        if other != values[variable.name]:
            return Challenge(kind, position, variable.name, other)
    return Challenge("ambiguity", position)


def _free_variables(graph: Graph, begun: Path) -> Sequence[Variable]:
    """Variables that the customer has named before the last of these nodes, and that decide no branch, call or other value."""
    said = {name for hop in pairwise(begun) for name in _spoken_variables(graph, *hop)}
    bounding = {name for variable in graph.spec.variables for name in bounds_of(variable).values()}
    bounding |= {name for node in graph.spec.nodes for name in argument_variables(node)}  # a call cannot be taken back
    return [
        variable
        for variable in graph.spec.variables
        if variable.name in said.difference(graph.facts, bounding) and variable.visibility == "customer" and not bounds_of(variable)
    ]


def _spoken_variables(graph: Graph, node_id: str, taken: str) -> set[str]:
    """Variables that the customer names at a node on the way to ``taken``: in all examples, or else in the node's prompt."""
    node, edge = graph.nodes[node_id], graph.edge(node_id, taken)
    if node.role != "user":
        return set()
    own = ("",) if graph.leaves(node_id, taken) else node.examples or (node.prompt,)
    texts = (edge.examples if edge else ()) or own
    return set.intersection(*(set(variables_of(text)) for text in texts))


def _plain_twists(graph: Graph, path: Path) -> list[Twist]:
    """Without those in which several facts come at once: a style never lets the customer run ahead."""
    return [twist for twist in possible_twists(graph, path) if twist.kind != "several facts"]
