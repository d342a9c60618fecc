"""Evaluation scenarios: who the customer is, which way the conversation goes, and what the customer says or wants.

Half of the customers have values as in training, half have only values that training never sees. Paths follow the edges' weights,
but every edge that can be reached is on some path as far as the number of scenarios allows.
"""

import random
from collections.abc import Collection
from dataclasses import asdict, replace

from subterra_api.digest import sha256, short
from subterra_api.job_contract.messages import Evaluation
from subterra_core.procedure.graph import Graph, Path
from subterra_core.procedure.template import render
from subterra_jobs.dialogue.sampling import context, fitting, sample_values
from subterra_jobs.dialogue.scripted import messages, write
from subterra_jobs.evaluate.scenarios import customer_profiles
from subterra_jobs.evaluate.scenarios.customer_profiles import Profile
from subterra_jobs.evaluate.scenarios.path_cover import _TRIES, cover, draw_paths
from subterra_jobs.evaluate.scenarios.scenario import Mark, Scenario


def build(graph: Graph, settings: Evaluation, trained: frozenset[Mark] = frozenset()) -> list[Scenario]:
    """The scenarios of these settings; the same for every candidate, so that candidates can be compared scenario by scenario."""
    paths = cover(graph, draw_paths(graph, settings), random.Random(f"evaluate/{settings.seed}/cover"))
    played = settings.simulator.name != "scripted"
    people = customer_profiles.deal(graph.spec, len(paths), settings.seed) if played else [None] * len(paths)
    found: dict[str, Scenario] = {}
    for index, (path, profile) in enumerate(zip(paths, people, strict=True)):
        scenario = _fresh(graph, path, profile, settings.seed, index, trained, found.keys())
        found[scenario.id] = scenario
    return list(found.values())


def _fresh(
    graph: Graph, path: Path, profile: Profile | None, seed: int, index: int, trained: frozenset[Mark], known: Collection[str],
) -> Scenario:  # fmt: skip
    """A scenario that is neither in training nor among the others; a procedure without variables may leave no choice."""
    for attempt in range(_TRIES):
        # The prefix keeps these draws apart from those of the dataset, whatever the numbers are.
        scenario = _scenario(graph, path, profile, index, random.Random(f"evaluate/{seed}/{index}/{attempt}"))
        if scenario.id not in known and scenario.mark not in trained:
            return scenario
    return scenario if scenario.id not in known else replace(scenario, id=f"{scenario.id}-{index}")


def _scenario(graph: Graph, path: Path, profile: Profile | None, index: int, rng: random.Random) -> Scenario:
    unseen = index % 2 == 1
    values = fitting(graph, path, sample_values(graph.spec.variables, rng, unseen=unseen), rng)
    opener = rng.choice(graph.spec.openers) if graph.spec.openers and index // 2 % 2 == 0 else None
    scenario = Scenario("", unseen, path, values, opener, (), True, profile=profile)
    return speak(graph, scenario, rng) if profile is None else _wish(graph, scenario, profile, rng)


def speak(graph: Graph, scenario: Scenario, rng: random.Random) -> Scenario:
    """The scenario with the customer's lines written from the graph's wordings, and the id that follows from them."""
    chat = messages("", scenario.opener, write(graph, scenario.path, scenario.values, rng))[1:]
    lines = tuple(message["content"] for message in chat if message["role"] == "user")
    said = [scenario.path, sorted(scenario.values.items()), lines]
    told = context(graph.spec, scenario.values)
    return replace(scenario, id=short(sha256(said), 12), lines=lines, agent_first=chat[0]["role"] == "assistant", context=told)


def _wish(graph: Graph, scenario: Scenario, profile: Profile, rng: random.Random) -> Scenario:
    """The scenario of a customer that a model plays."""
    path, values, start = scenario.path, scenario.values, graph.nodes[scenario.path[0]]
    opener = render(scenario.opener, values) if scenario.opener and start.role == "agent" else None
    drawn = customer_profiles.challenge(
        graph, path, values, profile.challenge, rng, unseen=scenario.unseen, greeted=opener is not None
    )
    profile = replace(profile, challenge=drawn.kind if drawn else None)
    wants, persona = tuple(wishes(graph, path)), [each.description for each in graph.spec.personas if each.name == profile.persona]
    meant = [variable.description for variable in graph.spec.variables if variable.visibility == "customer"]
    does = [path, sorted(values.items()), opener, asdict(profile), drawn and asdict(drawn), wants, persona, meant]
    return replace(
        scenario, id=short(sha256(does), 12), opener=opener, agent_first=start.role == "agent" and opener is None,
        context=context(graph.spec, values), profile=profile, wishes=wants, challenge=drawn,
    )  # fmt: skip


def wishes(graph: Graph, path: Path) -> list[str]:
    """What the customer says or decides at each own node; never what the agent does, nor what else could be decided."""
    found = []
    for place, node in enumerate(graph.nodes[each] for each in path):
        if node.role == "user":
            edge = graph.edge(node.id, path[place + 1]) if place + 1 < len(path) else None
            found.append((edge.when if edge else None) or node.prompt)
    return [text for text in found if text]
