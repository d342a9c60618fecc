"""Replaces what the customers of a procedure say by phrasings that it does not contain."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from subterra_api.v1alpha1.base import MAP, ApiModel
from subterra_api.v1alpha1.procedure import Node, NodeId, ProcedureSpec, Utterances
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import variables_of
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.evaluate.scenarios.build import with_scripted_lines
from subterra_jobs.evaluate.scenarios.scenario import Scenario


class EdgePhrases(ApiModel):
    """What a customer says at ``from`` to go to ``to``."""

    from_: Annotated[NodeId, Field(alias="from")]
    to: NodeId
    phrases: Utterances


class Phrases(ApiModel):
    """Customer phrasings that are not in the procedure."""

    openers: Utterances = ()
    """When empty, the procedure's own stay."""
    nodes: Annotated[dict[NodeId, Utterances], MAP] = {}
    edges: tuple[EdgePhrases, ...] = ()


def load_phrases(path: Path) -> Phrases:
    """The phrases in a file. Raises InvalidInputError."""
    try:
        return Phrases.model_validate(yaml.safe_load(path.read_text()))
    except (ValidationError, yaml.YAMLError) as error:
        raise InvalidInputError(f"{path} is not a phrases file: {error}") from None


def rephrase_scenarios(graph: Graph, phrases: Phrases, scenarios: list[Scenario], seed: int) -> list[Scenario]:
    """The same customers on the same paths with other phrasings. Raises InvalidInputError."""
    other = Graph(rephrase_procedure(graph.spec, phrases))
    rng = random.Random(f"evaluate/{seed}/unseen-wordings")

    def rephrased(scenario: Scenario) -> Scenario:
        opened = replace(scenario, opener=rng.choice(phrases.openers)) if phrases.openers and scenario.opener else scenario
        return with_scripted_lines(other, opened, rng)

    return [rephrased(scenario) for scenario in scenarios]


def rephrase_procedure(spec: ProcedureSpec, phrases: Phrases) -> ProcedureSpec:
    """The procedure with all customer phrasings replaced. Raises InvalidInputError unless each has a new one that fits."""
    edges = {(edge.from_, edge.to): edge.phrases for edge in phrases.edges}
    if problems := list(_problems(spec, phrases, edges)):
        raise InvalidInputError("; ".join(problems))

    def rephrased(node: Node) -> Node:
        if node.role != "user":
            return node
        edges_out = tuple(edge.model_copy(update={"examples": edges.get((node.id, edge.to), ())}) for edge in node.next)
        return node.model_copy(update={"examples": phrases.nodes.get(node.id, ()), "next": edges_out})

    return spec.model_copy(update={"nodes": tuple(rephrased(node) for node in spec.nodes)})


def _problems(spec: ProcedureSpec, phrases: Phrases, edges: dict[tuple[str, str], tuple[str, ...]]) -> Iterator[str]:
    users = [node for node in spec.nodes if node.role == "user"]
    originals = {(node.id, ""): node.examples for node in users if node.examples}
    originals |= {(node.id, edge.to): edge.examples for node in users for edge in node.next if edge.examples}
    replacements = {(node, ""): texts for node, texts in phrases.nodes.items()} | edges
    known = {text.strip().lower() for texts in originals.values() for text in texts}
    for part in sorted(originals.keys() - replacements.keys()):
        yield f"{_name(part)} has no phrases; add some"
    for part in sorted(replacements.keys() - originals.keys()):
        yield f"{_name(part)} has phrases, but the procedure has no examples there; remove them"
    for part, texts in replacements.items():
        variables = {frozenset(variables_of(text)) for text in originals.get(part, ())}
        for text in texts:
            if text.strip().lower() in known:
                yield f"{_name(part)}: {text!r} is in the procedure; use a phrasing that is not"
            if part in originals and frozenset(variables_of(text)) not in variables:
                yield f"{_name(part)}: {text!r} mentions other variables; use those of the procedure's own examples"


def _name(part: tuple[str, str]) -> str:
    return f"edge {part[0]} → {part[1]}" if part[1] else f"node {part[0]}"
