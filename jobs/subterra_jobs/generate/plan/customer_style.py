"""How a customer talks: opener, persona, style, and now and then a turn that does not go by the book. Pure.

What has few kinds is spread evenly over a plan instead of left to chance. A twist is for teachers that are models; the scripted
teacher has only the procedure's examples, so its conversations stay plain.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from subterra_core.procedure.graph import Graph, Path
from subterra_core.procedure.template import render, variables_of
from subterra_jobs.generate.plan.hash_random import at, pick, rng, spread

OPENER_PROBABILITY = 0.5
GREETED_PROBABILITY = 0.2
"""Share of the openers that only return the agent's greeting."""
TWIST_SHARE = 0.15
"""Share of the conversations that have one turn with a twist, as far as they have a turn that can take one."""
STYLES = ("in a few words", "in full sentences", "casually, as to a friend", "politely and formally")

TwistKind = Literal["digression", "correction", "several facts"]


@dataclass(frozen=True)
class Twist:
    """What is unusual about the customer's turn at ``position`` of the path. ``about`` is the variable concerned, if any."""

    kind: TwistKind
    position: int
    about: str | None = None


@dataclass(frozen=True)
class Manner:
    """How one conversation's customer talks. ``greeted``: the agent had greeted already when the customer said the opener."""

    opener: str | None = None
    persona: str | None = None
    style: str | None = None
    twist: Twist | None = None
    greeted: bool = False


def manner(graph: Graph, path: Path, values: Mapping[str, str], index: int, *key: object) -> Manner:
    """The ``index``-th manner of those that share all of ``key`` but its last part."""
    spec, draw, group = graph.spec, rng(*key, "speaker"), key[:-1]
    opens = graph.nodes[spec.start].role == "agent" and bool(spec.openers) and draw.random() < OPENER_PROBABILITY
    opener = render(draw.choice(spec.openers), values) if opens else None
    personas = spec.personas
    persona = personas[at(spread(index, *group, "persona"), [each.weight for each in personas])].name if personas else None
    style = STYLES[at(spread(index, *group, "style"), [1] * len(STYLES))]
    twisted = spread(index, *group, "twist") < TWIST_SHARE
    twist = _twist(graph, path, *key) if twisted else None
    return Manner(opener, persona, style, twist, opens and draw.random() < GREETED_PROBABILITY)


def _twist(graph: Graph, path: Path, *key: object) -> Twist | None:
    possible = twists(graph, path)
    kinds = sorted({twist.kind for twist in possible})
    if not kinds:
        return None
    kind = kinds[pick(kinds, [1] * len(kinds), *key, "kind")]
    found = [twist for twist in possible if twist.kind == kind]
    return found[pick([str(twist) for twist in found], [1] * len(found), *key, "twist")]


def twists(graph: Graph, path: Path) -> list[Twist]:
    """Every twist that a conversation can have. A correction stays within its turn, so that what follows rests on what is true."""
    spoken = {variable.name for variable in graph.spec.variables if variable.visibility == "customer"}
    turns = [(place, graph.nodes[node]) for place, node in enumerate(path) if graph.nodes[node].role == "user"]
    found: list[Twist] = []
    for number, (place, node) in enumerate(turns):
        told = [name for name in variables_of(node.prompt) if name in spoken]
        later = [name for _, each in turns[number + 1 :] for name in variables_of(each.prompt) if name in spoken]
        found.append(Twist("digression", place))
        found += [Twist("correction", place, name) for name in told]
        found += [Twist("several facts", place, name) for name in dict.fromkeys(later) if name not in told]
    return found
