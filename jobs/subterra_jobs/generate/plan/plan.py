"""Plans a dataset: one spec per conversation, with its path, its scenario and its side of the train/held-out split. Pure.

A plan depends on the procedure, the number of conversations, the seeds, and whether the teacher is scripted, which decides on the
kind of values (`dialogue/sampling.py`). It depends on nothing else: not on workers, models or cached turns. Most conversations are
*base* conversations that follow the edges' weights. Each of their choices is a hash of seed, conversation, node and visit, so edits
elsewhere in the procedure leave them unchanged. The rest are *top-ups*, named after the node n-gram they were added for: enough of
them that every edge and every pair of consecutive edges occurs in `FLOOR` training conversations, and that every terminal has its
share. A scripted teacher costs nothing, so with it every edge has a share as well: a small model does not learn a rare branch from
three conversations.

A scenario is held out by its hash, unless training would then lack something; see `split.py`.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from subterra_api.job_contract.messages import Generation
from subterra_api.v1alpha1.procedure import Edge, Node, ProcedureSpec
from subterra_core.procedure.anywhere import reached_only_by_leaving
from subterra_core.procedure.graph import Graph, Path
from subterra_core.procedure.template import variables_of
from subterra_core.procedure.tools import call_variables
from subterra_jobs.dialogue.sampling import ValueKind, fit_values_to_path, kind_for_models, kind_for_script, sample_each, walk_path
from subterra_jobs.generate.plan.anywhere_plan import (
    AnywherePlan,
    has_leaving,
    leaving_to_hold_out,
    without_leaving,
    without_leaving_pairs,
)
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.customer_style import draw_customer_style
from subterra_jobs.generate.plan.hash_random import rng, weighted_rendezvous
from subterra_jobs.generate.plan.path_space import NodeNgram, PathSpace, ngrams_of
from subterra_jobs.generate.plan.pilot import customer_decisions, select_pilot
from subterra_jobs.generate.plan.question_plan import with_questions
from subterra_jobs.generate.plan.split import (
    Requirements,
    copies_to_hold_out,
    crowding_scenarios,
    least_missed_scenario,
    oversized_scenarios,
    scenario_to_hold_out,
    scenarios_to_train,
)
from subterra_jobs.generate.plan.styled_customer import draw_styled_customer

FLOOR = 3
"""Minimum count of each edge and each pair of consecutive edges in training, as far as the number of conversations allows."""
TERMINAL_SHARE = 0.10
"""Minimum share of the training conversations per terminal; procedures with many terminals reserve half for all of them."""
SUCCESS_SHARE = 0.20
"""Minimum share of all terminals with outcome success together."""
SCRIPTED_EDGE_SHARE = 0.075
"""Share of the conversations in which each edge occurs in training, where the teacher is scripted; as far as its top-ups allow."""
_EDGE_TOP_UPS = 0.2
"""The most conversations that are added for that share: most have to follow the author's weights."""
_HELD_OUT_TRIES = 20


def plan_conversations(procedure: ProcedureSpec, generation: Generation) -> list[ConversationSpec]:
    """All planned conversations, in the order of the seeds.

    What a path can take is trained on as far as the number of conversations allows. Some conversations are held out whenever there
    are two scenarios or more, or a scenario that is planned twice.
    """
    graph = Graph(procedure)
    space, quota = PathSpace(graph), _quota(generation)
    seed_plans = [_SeedPlan(graph, space, seed, generation) for seed in dict.fromkeys(generation.seeds)]
    specs, replanned = _all_conversations(seed_plans), False
    while needed := _wrongly_held_out(graph, specs, space, quota):
        for seed_plan in seed_plans:
            seed_plan.train_on(needed)
        specs, replanned = _all_conversations(seed_plans), True
    split = _with_held_out(procedure, specs, quota, fill=replanned)
    for scenario in sorted(leaving_to_hold_out(graph, split)):
        split = _holding_out(split, scenario)
    return with_questions(graph, _with_pilot(graph, split))


def _all_conversations(seed_plans: "Iterable[_SeedPlan]") -> list[ConversationSpec]:
    return [spec for seed_plan in seed_plans for spec in seed_plan.conversations()]


def _wrongly_held_out(graph: Graph, specs: list[ConversationSpec], space: PathSpace, quota: int) -> set[str]:
    """Scenarios that are held out by their hash and should be trained on."""
    needed = scenarios_to_train(specs, without_leaving_pairs(graph, space.ngrams)) | oversized_scenarios(specs, quota)
    return needed or crowding_scenarios(specs, without_leaving(graph, space.ngrams))


def train_whole(graph: Graph, specs: list[ConversationSpec]) -> list[ConversationSpec]:
    """The conversations that are left of a plan, split so that nothing a path can take is only held out."""
    needed = scenarios_to_train(specs, without_leaving_pairs(graph, PathSpace(graph).ngrams))
    quota = max(1, sum(spec.held_out for spec in specs))
    kept = [replace(spec, held_out=spec.held_out and spec.scenario not in needed) for spec in specs]
    split = _with_held_out(graph.spec, kept, quota) if needed else kept
    trained = {spec.scenario for spec in split if spec.is_training}
    return [replace(spec, copy=spec.copy and spec.held_out and spec.scenario in trained) for spec in split]


def _quota(generation: Generation) -> int:
    """The most conversations to hold out of a single scenario, and to hold out as copies."""
    planned = generation.conversations * len(set(generation.seeds))
    return max(FLOOR, planned * generation.held_out_percent // 100)


def _with_held_out(
    procedure: ProcedureSpec, specs: list[ConversationSpec], quota: int, *, fill: bool = False
) -> list[ConversationSpec]:
    """Holds out what training can do without, if nothing is held out yet: a scenario, else copies, else what is missed least.

    With ``fill`` copies are added until about ``quota`` conversations are held out.
    """
    if not any(spec.held_out for spec in specs):
        specs = _holding_out(specs, scenario_to_hold_out(specs, quota))
    held_out = sum(spec.held_out for spec in specs)
    if fill or not held_out:
        required = Requirements(FLOOR, terminal_shares(procedure))
        copies = copies_to_hold_out(specs, max(0, quota - held_out), required)
        specs = [replace(spec, held_out=True, copy=True) if spec.id in copies else spec for spec in specs]
    return specs if any(spec.held_out for spec in specs) else _holding_out(specs, least_missed_scenario(specs))


def _holding_out(specs: list[ConversationSpec], scenario: str | None) -> list[ConversationSpec]:
    return [replace(spec, held_out=spec.held_out or spec.scenario == scenario) for spec in specs]


def terminal_shares(procedure: ProcedureSpec) -> dict[str, float]:
    """The minimum share of the training conversations for each terminal."""
    elsewhere = reached_only_by_leaving(procedure)  # anywhere edges have a share of their own
    terminals = [node for node in procedure.nodes if not node.next and node.id not in elsewhere]
    successes = sum(node.outcome == "success" for node in terminals)
    least = min(TERMINAL_SHARE, 0.5 / len(terminals))
    shares = {node.id: max(least, SUCCESS_SHARE / successes) if node.outcome == "success" else least for node in terminals}
    return {node.id: shares.get(node.id, 0.0) for node in procedure.nodes if not node.next}


def _with_pilot(graph: Graph, specs: list[ConversationSpec]) -> list[ConversationSpec]:
    chosen = set(select_pilot(graph, {spec.id: spec.path for spec in specs}))
    return [replace(spec, audited=customer_decisions(graph, spec.path)) if spec.id in chosen else spec for spec in specs]


class _ScenarioDigests:
    """Digests of scenarios: the path, and the values that are mentioned on it or are in the context."""

    def __init__(self, graph: Graph) -> None:
        procedure = graph.spec
        self._context = [variable.name for variable in procedure.variables if variable.visibility == "context"]
        self._nodes = {
            node.id: call_variables(procedure, node).union(variables_of(" ".join((node.prompt, *node.examples))))
            for node in procedure.nodes
        }
        self._edges = {
            (node, edge.to): set(variables_of(" ".join(edge.examples))) for node in graph.nodes for edge in graph.edges_of(node)
        }

    def digest(self, path: Path, values: Mapping[str, str]) -> str:
        mentioned = set(self._context).union(*(self._nodes[node] for node in path), *(self._edges[hop] for hop in pairwise(path)))
        return hashlib.sha256(json.dumps([path, sorted((name, values[name]) for name in mentioned)]).encode()).hexdigest()


class _SeedPlan:
    """The part of a plan that belongs to one seed."""

    def __init__(self, graph: Graph, space: PathSpace, seed: int, generation: Generation) -> None:
        self._graph, self._space, self._seed = graph, space, seed
        self._count, self._held_out_percent = generation.conversations, generation.held_out_percent
        scripted = generation.teacher.name == "scripted"
        self._values_kind: ValueKind = (kind_for_script if scripted else kind_for_models)(graph.spec)
        self._edge_floor = max(FLOOR, int(SCRIPTED_EDGE_SHARE * self._count)) if scripted else FLOOR
        self._scenarios = _ScenarioDigests(graph)
        self._shares = {(terminal,): least for terminal, least in terminal_shares(graph.spec).items()}
        self._anywhere = AnywherePlan(graph, space, FLOOR)
        frequency = space.ngrams
        # Rare n-grams first: a path through one brings many common ones along.
        drawn = (ngram for ngram in frequency if len(ngram) > 1 and not has_leaving(graph, ngram))
        self._rarest_first = sorted(drawn, key=lambda ngram: (frequency[ngram], ngram))
        self._made: dict[str, ConversationSpec] = {}
        self._trained = frozenset[str]()

    def train_on(self, scenarios: Collection[str]) -> None:
        """Holds out none of these scenarios from now on, whatever their hash is."""
        self._trained = self._trained.union(scenarios)
        for name, spec in self._made.items():
            self._made[name] = replace(spec, held_out=spec.held_out and spec.scenario not in self._trained)

    def conversations(self) -> list[ConversationSpec]:
        """As many base conversations as leave room for the top-ups they need, then these top-ups."""
        base = [self._base(index) for index in range(self._count)]
        size, counts = len(base), _count_ngrams(base)
        while size + len(top_ups := self._top_ups(base[:size], counts)) > self._count and size:
            smaller = max(0, min(size - 1, self._count - len(top_ups)))
            counts.subtract(_count_ngrams(base[smaller:size]))
            size = smaller
        top_ups = top_ups[: self._count]
        return [*base[: self._count - len(top_ups)], *sorted(top_ups, key=lambda spec: spec.id)]

    def _base(self, index: int) -> ConversationSpec:
        """A conversation along the edges' weights. Facts come before any choice, so values are drawn first."""
        name = f"s{self._seed}-{index:06d}"
        if name not in self._made:
            values = self._values(name)
            path = walk_path(self._graph, _choose_by_hash(name), values)
            path = self._anywhere.path(path, values, index, self._seed, name, _choose_by_hash(f"{name}/left"))
            self._made[name] = self._spec(name, path, values, index, self._seed, index)
        return self._made[name]

    def _top_up(self, ngram: NodeNgram, number: int) -> ConversationSpec:
        """Top-up number ``number`` for an n-gram."""
        name = f"s{self._seed}-top.{'.'.join(ngram)}.{number:03d}"
        if name not in self._made:
            path = self._space.path(ngram, name)
            values = fit_values_to_path(self._graph, path, self._values(name), rng(name, "facts"))
            self._made[name] = self._spec(name, path, values, number, self._seed, *ngram, number)
        return self._made[name]

    def _spec(self, name: str, path: Path, values: dict[str, str], index: int, *key: object) -> ConversationSpec:
        scenario = self._scenarios.digest(path, values)
        held_out = int(scenario[:8], 16) % 100 < self._held_out_percent and scenario not in self._trained
        draw = draw_styled_customer if self._values_kind == "real" else draw_customer_style
        customer = draw(self._graph, path, values, index, *key)
        return ConversationSpec(name, self._seed, path, values, scenario, held_out, customer)

    def _values(self, name: str) -> dict[str, str]:
        """A value for each variable, drawn by its own name, so that adding a variable changes no value that it does not bound."""
        variables = self._graph.spec.variables
        return sample_each(variables, lambda variable: rng(name, "value", variable), unseen=False, kind=self._values_kind)

    def _top_ups(self, base: Sequence[ConversationSpec], counts: Counter[NodeNgram]) -> list[ConversationSpec]:
        """The top-ups that ``base`` needs: everything once and the terminals' shares, before anything twice."""
        top_ups = _TopUps(self._top_up, base, Counter(counts))
        for floor in range(1, FLOOR + 1):
            for ngram in self._rarest_first:
                while top_ups.counts[ngram] < floor and top_ups.add(ngram):
                    pass
            self._add_leaving(top_ups, floor)
            self._raise_terminals(top_ups)
        self._raise_edges(top_ups)
        return top_ups.conversations

    def _raise_edges(self, top_ups: "_TopUps") -> None:
        """Adds top-ups until every edge has its share, the rarest first, or as many as may be were added."""
        most = len(top_ups.conversations) + int(_EDGE_TOP_UPS * self._count)
        elsewhere = reached_only_by_leaving(self._graph.spec)  # their share is that of the anywhere edges
        open_ = [ngram for ngram in self._rarest_first if len(ngram) == 2 and ngram[0] not in elsewhere]
        for floor in range(FLOOR + 1, self._edge_floor + 1):
            lagging = [edge for edge in open_ if top_ups.counts[edge] < floor]
            for edge in lagging:
                if len(top_ups.conversations) >= most:
                    return
                if top_ups.counts[edge] < floor and not top_ups.add(edge):
                    open_.remove(edge)

    def _add_leaving(self, top_ups: "_TopUps", floor: int) -> None:
        """Adds top-ups that take anywhere edges at the turns where too few do, as far as their share allows."""
        most = self._anywhere.most(self._count)
        for hop in self._anywhere.hops:
            while top_ups.counts[hop] < floor and sum(top_ups.counts[each] for each in self._anywhere.hops) < most:
                if not top_ups.add(hop):
                    break

    def _raise_terminals(self, top_ups: "_TopUps") -> None:
        """Adds top-ups until every terminal has its share, or no more can be added for it."""
        open_ = [terminal for terminal in self._shares if terminal in self._space.ngrams]
        while lagging := [
            terminal for terminal in open_ if top_ups.counts[terminal] < self._shares[terminal] * top_ups.max_training(self._count)
        ]:
            open_ = [terminal for terminal in open_ if terminal not in lagging or top_ups.add(terminal)]


class _TopUps:
    """The top-ups of a plan as they are added, with the resulting n-gram counts in training."""

    def __init__(
        self, make: Callable[[NodeNgram, int], ConversationSpec], base: Sequence[ConversationSpec], counts: Counter[NodeNgram]
    ) -> None:
        self.conversations: list[ConversationSpec] = []
        self.counts = counts
        self._make, self._base = make, len(base)
        self._training = sum(spec.is_training for spec in base)
        self._known = {spec.scenario for spec in base}
        self._numbers: Counter[NodeNgram] = Counter()

    def add(self, ngram: NodeNgram) -> bool:
        """Adds a training conversation for ``ngram``; False if all candidates drawn are held out."""
        for _ in range(_HELD_OUT_TRIES):
            spec = self._make(ngram, self._numbers[ngram])
            self._numbers[ngram] += 1
            if not spec.held_out or spec.scenario not in self._known:
                self.conversations.append(spec)
                self._known.add(spec.scenario)
            if spec.is_training:
                self.counts.update(ngrams_of(spec.path))
                self._training += 1
                return True
        return False

    def max_training(self, count: int) -> int:
        """The largest possible number of training conversations in a plan of ``count`` with these top-ups."""
        return self._training + max(0, count - self._base - len(self.conversations))


def _count_ngrams(specs: Sequence[ConversationSpec]) -> Counter[NodeNgram]:
    """How often each n-gram occurs in the training conversations among ``specs``."""
    return Counter(ngram for spec in specs if spec.is_training for ngram in ngrams_of(spec.path))


def _choose_by_hash(name: str) -> Callable[[Node, Sequence[Edge]], Edge]:
    """A chooser of edges by weight, where each choice is a hash of the conversation, the node and the number of its visit."""
    visits: Counter[str] = Counter()

    def choose(node: Node, edges: Sequence[Edge]) -> Edge:
        visits[node.id] += 1
        targets, weights = [edge.to for edge in edges], [edge.weight for edge in edges]
        return edges[weighted_rendezvous(targets, weights, name, node.id, visits[node.id])]

    return choose
