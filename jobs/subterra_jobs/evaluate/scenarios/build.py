"""Builds evaluation scenarios: the path, the values, the customer's profile, and the customer's lines or goals.

Half of the customers have values as in training, half have held-out values. Paths follow the edges' weights, but every reachable
edge is on some path as far as the number of scenarios allows.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace

from subterra_api.digest import sha256, short
from subterra_api.job_contract.messages import Evaluation
from subterra_core.procedure.graph import Graph, Path
from subterra_core.procedure.template import render
from subterra_jobs.dialogue.anywhere_paths import leaves_at
from subterra_jobs.dialogue.sampling import context_lines, fit_values_to_path, kind_for_models, kind_for_script, sample_values
from subterra_jobs.dialogue.scripted import chat_messages, scripted_utterances
from subterra_jobs.evaluate.scenarios import customer_profiles
from subterra_jobs.evaluate.scenarios.customer_profiles import CustomerProfile
from subterra_jobs.evaluate.scenarios.path_cover import cover_edges, draw_paths, rare_branch_paths
from subterra_jobs.evaluate.scenarios.scenario import CustomerSignature, Scenario

LEAVES = "You do not answer the agent's question here, and say this instead:"
"""Before what the customer says at a turn that takes an anywhere edge."""
_TRIES = 50
"""Draws of values before an equal scenario is accepted."""


def build_scenarios(graph: Graph, settings: Evaluation, training: frozenset[CustomerSignature] = frozenset()) -> list[Scenario]:
    """Scenarios of these settings, the same for every arm, so that arms can be compared scenario by scenario."""
    paths = cover_edges(graph, draw_paths(graph, settings), random.Random(f"evaluate/{settings.seed}/cover"))
    by_model = settings.simulator.name != "scripted"
    profiles = customer_profiles.assign_profiles(graph.spec, len(paths), settings.seed) if by_model else [None] * len(paths)
    scenarios: dict[str, Scenario] = {}
    for index, (path, profile) in enumerate(zip(paths, profiles, strict=True)):
        scenario = _distinct_scenario(graph, _Draft(index, path, profile), settings.seed, training, scenarios.keys())
        scenarios[scenario.id] = scenario
    return list(scenarios.values())


def rare_branch_scenarios(
    graph: Graph, settings: Evaluation, scenarios: Sequence[Scenario], training: frozenset[CustomerSignature] = frozenset()
) -> list[Scenario]:
    """Further customers for branches that `scenarios` take too rarely to tell whether they fail; they count for nothing else.

    They have the profiles of the first scenarios and come after those in every draw, so that all scenarios stay as drawn.
    """
    paths = rare_branch_paths(graph, [scenario.path for scenario in scenarios], settings.seed)
    known: dict[str, Scenario] = {scenario.id: scenario for scenario in scenarios}
    found: list[Scenario] = []
    for number, path in enumerate(paths):
        draft = _Draft(len(scenarios) + number, path, scenarios[number % len(scenarios)].profile)
        scenario = _distinct_scenario(graph, draft, settings.seed, training, known.keys())
        known[scenario.id] = scenario
        found.append(scenario)
    return found


@dataclass(frozen=True)
class _Draft:
    """A scenario whose values are not drawn yet."""

    index: int
    path: Path
    profile: CustomerProfile | None


def _distinct_scenario(
    graph: Graph, draft: _Draft, seed: int, training: frozenset[CustomerSignature], known: Collection[str]
) -> Scenario:
    """A scenario that is neither in `training` nor in `known`, unless the procedure leaves no choice."""
    for attempt in range(_TRIES):
        # The prefix keeps these draws apart from those of the dataset, whatever the numbers are.
        scenario = _draw_scenario(graph, draft, random.Random(f"evaluate/{seed}/{draft.index}/{attempt}"))
        if scenario.id not in known and scenario.signature not in training:
            return scenario
    return scenario if scenario.id not in known else replace(scenario, id=f"{scenario.id}-{draft.index}")


def _draw_scenario(graph: Graph, draft: _Draft, rng: random.Random) -> Scenario:
    index, path, profile = draft.index, draft.path, draft.profile
    unseen = index % 2 == 1
    kind = (kind_for_script if profile is None else kind_for_models)(graph.spec)  # a scripted customer has no profile
    drawn = sample_values(graph.spec.variables, rng, unseen=unseen, kind=kind)
    values = fit_values_to_path(graph, path, drawn, rng)
    opener = rng.choice(graph.spec.openers) if graph.spec.openers and index // 2 % 2 == 0 else None
    scenario = Scenario("", unseen, path, values, opener, (), True, profile=profile)
    return with_scripted_lines(graph, scenario, rng) if profile is None else _with_goals(graph, scenario, profile, rng)


def with_scripted_lines(graph: Graph, scenario: Scenario, rng: random.Random) -> Scenario:
    """The scenario with lines written from the procedure's examples, and the id derived from them."""
    chat = chat_messages("", scenario.opener, scripted_utterances(graph, scenario.path, scenario.values, rng))[1:]
    lines = tuple(message["content"] for message in chat if message["role"] == "user")
    return replace(
        scenario,
        id=_scenario_id(scenario.path, sorted(scenario.values.items()), lines),
        lines=lines,
        agent_first=chat[0]["role"] == "assistant",
        context=context_lines(graph.spec, scenario.values),
    )


def _with_goals(graph: Graph, scenario: Scenario, profile: CustomerProfile, rng: random.Random) -> Scenario:
    """The scenario with goals and a challenge for a customer played by a model."""
    path, values, start = scenario.path, scenario.values, graph.nodes[scenario.path[0]]
    opener = render(scenario.opener, values) if scenario.opener and start.role == "agent" else None
    greeted = opener is not None
    challenge = customer_profiles.draw_challenge(
        graph, path, values, profile.challenge, rng, unseen=scenario.unseen, greeted=greeted
    )
    profile = replace(profile, challenge=challenge.kind if challenge else None)
    goals = tuple(customer_goals(graph, path))
    persona = [persona.description for persona in graph.spec.personas if persona.name == profile.persona]
    meanings = [variable.description for variable in graph.spec.variables if variable.visibility == "customer"]
    person = [opener, asdict(profile), challenge and asdict(challenge), goals, persona, meanings]
    person += [] if graph.spec.style is None else ["styled"]  # whose situation has less
    return replace(
        scenario,
        id=_scenario_id(path, sorted(values.items()), *person),
        opener=opener,
        agent_first=start.role == "agent" and not greeted,
        context=context_lines(graph.spec, values),
        profile=profile,
        goals=goals,
        challenge=challenge,
    )


def _scenario_id(*parts: object) -> str:
    """Digest of everything the customer does."""
    return short(sha256([*parts]), 12)


def customer_goals(graph: Graph, path: Path) -> list[str]:
    """What the customer says or decides at each customer node; never what the agent does or which other edges exist."""
    goals = []
    for index, node in enumerate(graph.nodes[node_id] for node_id in path):
        if node.role == "user":
            edge = graph.edge(node.id, path[index + 1]) if index + 1 < len(path) else None
            if edge is not None and leaves_at(graph, path, index):
                goals.append(f"{LEAVES} {edge.when}")
            else:
                goals.append((edge.when if edge else None) or node.prompt)
    return [goal for goal in goals if goal]
