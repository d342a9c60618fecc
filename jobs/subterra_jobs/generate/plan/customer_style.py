"""How a customer talks: opener, persona, style, and occasionally a turn with a twist. Pure.

Attributes with few values are spread evenly over a plan rather than drawn independently. Only LLM teachers act on a twist; the
scripted teacher has nothing but the procedure's examples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from subterra_core.procedure.graph import Graph, Path
from subterra_core.procedure.template import render, variables_of
from subterra_jobs.dialogue.anywhere_paths import leaves_at
from subterra_jobs.generate.plan.hash_random import golden_ratio_sequence, index_at, rng, weighted_rendezvous

OPENER_SHARE = 0.5
GREETED_SHARE = 0.2
"""Share of the openers that merely return the agent's greeting."""
TWIST_SHARE = 0.15
"""Share of the conversations with a twist in one turn, as far as they have a suitable turn."""
STYLES = ("in a few words", "in full sentences", "casually, as to a friend", "politely and formally")

TwistKind = Literal["digression", "correction", "several facts"]


@dataclass(frozen=True)
class Twist:
    """What is unusual about one customer turn. Its ``str`` is hashed by `_draw_twist`: renaming anything here changes plans."""

    kind: TwistKind
    position: int
    """Index of the turn's node in the path."""
    about: str | None = None
    """The variable concerned, if any."""


ChallengeKind = Literal["change of mind", "ambiguity", "contradiction"]


@dataclass(frozen=True)
class Challenge:
    """A difficulty for the agent, of one of the evaluation's kinds, at one customer turn of a procedure with a `style`."""

    kind: ChallengeKind
    position: int
    """Index of the turn's node in the path. Before it, a customer who changes their mind has the value `other`."""
    about: str = ""
    """The variable concerned, if any."""
    other: str = ""
    """An untrue value of it."""

    @property
    def has_aside(self) -> bool:
        """Whether the agent asks back before the turn: an exchange that the flowchart does not have."""
        return self.kind != "change of mind"


@dataclass(frozen=True)
class CustomerStyle:
    """How the customer of one conversation talks."""

    opener: str | None = None
    persona: str | None = None
    style: str | None = None
    twist: Twist | None = None
    greeted: bool = False
    """True if the agent had already greeted the customer before the opener."""
    challenge: Challenge | None = None


def draw_customer_style(graph: Graph, path: Path, values: Mapping[str, str], index: int, *key: object) -> CustomerStyle:
    """The style number ``index`` among those that share all of ``key`` but its last part."""
    spec, draw, group = graph.spec, rng(*key, "speaker"), key[:-1]
    opens = graph.nodes[spec.start].role == "agent" and bool(spec.openers) and draw.random() < OPENER_SHARE
    opener = render(draw.choice(spec.openers), values) if opens else None
    personas = spec.personas
    weights = [persona.weight for persona in personas]
    persona = personas[index_at(golden_ratio_sequence(index, *group, "persona"), weights)].name if personas else None
    style = STYLES[index_at(golden_ratio_sequence(index, *group, "style"), [1] * len(STYLES))]
    twisted = golden_ratio_sequence(index, *group, "twist") < TWIST_SHARE
    twist = draw_twist(possible_twists(graph, path), *key) if twisted else None
    return CustomerStyle(opener, persona, style, twist, opens and draw.random() < GREETED_SHARE)


def draw_twist(twists: Sequence[Twist], *key: object) -> Twist | None:
    """One of the twists, each kind as likely as another; `None` if there are none."""
    kinds = sorted({twist.kind for twist in twists})
    if not kinds:
        return None
    kind = kinds[weighted_rendezvous(kinds, [1] * len(kinds), *key, "kind")]
    of_kind = [twist for twist in twists if twist.kind == kind]
    return of_kind[weighted_rendezvous([str(twist) for twist in of_kind], [1] * len(of_kind), *key, "twist")]


def possible_twists(graph: Graph, path: Path) -> list[Twist]:
    """Every twist that fits a path. A correction stays within one turn, so later turns can rely on the true value."""
    customer_known = {variable.name for variable in graph.spec.variables if variable.visibility == "customer"}
    turns = [
        (position, graph.nodes[node])
        for position, node in enumerate(path)
        if graph.nodes[node].role == "user" and not leaves_at(graph, path, position)
    ]
    twists: list[Twist] = []
    for number, (position, node) in enumerate(turns):
        stated = [name for name in variables_of(node.prompt) if name in customer_known]
        later = [name for _, turn in turns[number + 1 :] for name in variables_of(turn.prompt) if name in customer_known]
        twists.append(Twist("digression", position))
        twists += [Twist("correction", position, name) for name in stated]
        twists += [Twist("several facts", position, name) for name in dict.fromkeys(later) if name not in stated]
    return twists
