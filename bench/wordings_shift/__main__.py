"""How the candidate copes with customers' wordings that nobody trained it on.

``python -m bench.wordings_shift.__main__ --input FILE --phrases FILE.yaml --url URL`` plays the evaluation's scenarios
with the customer's wordings exchanged for those of the phrases file, and prints conformance as one line of JSON.
"""

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from subterra_api.job_contract.messages import ExitCode, RunInput
from subterra_api.v1alpha1.base import MAP, ApiModel
from subterra_api.v1alpha1.procedure import Node, NodeId, ProcedureSpec, Utterances
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import variables_of
from subterra_jobs.errors import InvalidInputError, StageError
from subterra_jobs.evaluate.analysis.summary import summarise
from subterra_jobs.evaluate.judge.judges import examine
from subterra_jobs.evaluate.judge.rule_labeller import Labeller
from subterra_jobs.evaluate.scenarios import build
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.participants import CANDIDATE, reply_budget
from subterra_jobs.evaluate.simulate.simulation import Played, play


class EdgePhrases(ApiModel):
    """What a customer says at ``from`` to go to ``to``."""

    from_: Annotated[NodeId, Field(alias="from")]
    to: NodeId
    phrases: Utterances


class Phrases(ApiModel):
    """Wordings of the customer that are not in the procedure."""

    openers: Utterances = ()
    """When empty, the procedure's own stay."""
    nodes: Annotated[dict[NodeId, Utterances], MAP] = {}
    edges: tuple[EdgePhrases, ...] = ()


def main() -> int:
    """Prints one line; the exit code is the contract's."""
    parser = argparse.ArgumentParser(prog="bench.wordings_shift.__main__", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--input", required=True, help="a run's frozen input")
    parser.add_argument("--phrases", required=True, help="YAML file with other wordings of the customer")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the candidate is served (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        run = RunInput.model_validate_json(Path(arguments.input).read_text())
        phrases = load(Path(arguments.phrases))
        sys.stdout.write(json.dumps(measure(run, phrases, arguments.url)) + "\n")
    except (StageError, ValidationError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return int(error.code) if isinstance(error, StageError) else int(ExitCode.INVALID_INPUT)
    return 0


def load(path: Path) -> Phrases:
    """The phrases of a file. Raises InvalidInputError."""
    try:
        return Phrases.model_validate(yaml.safe_load(path.read_text()))
    except (ValidationError, yaml.YAMLError) as error:
        raise InvalidInputError(f"{path} is no phrases file: {error}") from None


def measure(run: RunInput, phrases: Phrases, url: str) -> dict[str, Any]:
    """Figures for the run's scenarios, said in other words."""
    graph = Graph(run.procedure)
    cast = recast(graph, phrases, build.build(graph, run.evaluation), run.evaluation.seed)
    played: Played = asyncio.run(play(url, cast, max_tokens=reply_budget(graph), wait_seconds=10))
    labeller = Labeller(graph)
    results = [examine(graph, labeller, *pair) for pair in zip(cast, played.dialogues, strict=True)]
    scores = summarise({CANDIDATE: results}, run.evaluation.seed)
    return {
        "n": scores.scenarios, "seed": run.evaluation.seed, "model": played.model, "procedure": run.procedure_digest,
        "conformance": scores.conformance.model_dump(), "failureRate": scores.failure_rate.model_dump(),
        "slotsExact": scores.slots_exact,
    }  # fmt: skip


def recast(graph: Graph, phrases: Phrases, cast: list[Scenario], seed: int) -> list[Scenario]:
    """The same customers on the same paths, in other words."""
    other = Graph(reworded(graph.spec, phrases))
    rng = random.Random(f"evaluate/{seed}/unseen-wordings")
    openers = phrases.openers
    return [
        build.speak(other, replace(scenario, opener=rng.choice(openers)) if openers and scenario.opener else scenario, rng)
        for scenario in cast
    ]


def reworded(spec: ProcedureSpec, phrases: Phrases) -> ProcedureSpec:
    """The procedure with other customers' wordings. Raises InvalidInputError unless all are exchanged for new ones that fit."""
    edges = {(edge.from_, edge.to): edge.phrases for edge in phrases.edges}
    if problems := list(_problems(spec, phrases, edges)):
        raise InvalidInputError("; ".join(problems))

    def exchanged(node: Node) -> Node:
        if node.role != "user":
            return node
        ways = tuple(edge.model_copy(update={"examples": edges.get((node.id, edge.to), ())}) for edge in node.next)
        return node.model_copy(update={"examples": phrases.nodes.get(node.id, ()), "next": ways})

    return spec.model_copy(update={"nodes": tuple(exchanged(node) for node in spec.nodes)})


def _problems(spec: ProcedureSpec, phrases: Phrases, edges: dict[tuple[str, str], tuple[str, ...]]) -> Iterator[str]:
    users = [node for node in spec.nodes if node.role == "user"]
    places = {(node.id, ""): node.examples for node in users if node.examples}
    places |= {(node.id, edge.to): edge.examples for node in users for edge in node.next if edge.examples}
    given = {(node, ""): texts for node, texts in phrases.nodes.items()} | edges
    known = {text.strip().lower() for texts in places.values() for text in texts}
    for place in sorted(places.keys() - given.keys()):
        yield f"{_name(place)} has no phrases; add some"
    for place in sorted(given.keys() - places.keys()):
        yield f"{_name(place)} has phrases, but the procedure has no wordings there; remove them"
    for place, texts in given.items():
        wanted = {frozenset(variables_of(text)) for text in places.get(place, ())}
        for text in texts:
            if text.strip().lower() in known:
                yield f"{_name(place)}: {text!r} is in the procedure; use words that are not"
            if place in places and frozenset(variables_of(text)) not in wanted:
                yield f"{_name(place)}: {text!r} does not say the same values; use the variables of the procedure's own wordings"


def _name(place: tuple[str, str]) -> str:
    return f"edge {place[0]} → {place[1]}" if place[1] else f"node {place[0]}"


if __name__ == "__main__":
    sys.exit(main())
