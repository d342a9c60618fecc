"""Layered layout of a flowchart, from top to bottom (Sugiyama). Pure; draws nothing.

Edges to the same node share their *dummy nodes*, one per layer that they cross, and so merge into one trunk: ten edges to the human
colleague become one line that ten short ones join, which is easier to follow than ten parallel ones.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from subterra_core.procedure.graph import Hop

DummyNode = tuple[str, int]
"""The point where edges to a node cross a layer: target and layer."""
LayerItem = str | DummyNode
Neighbors = Mapping[LayerItem, Mapping[LayerItem, None]]
"""Items that each item is joined to, in the layers above and below, in the order of the edges: sums of floats depend on theirs."""
Attraction = tuple[tuple[tuple[LayerItem, float], ...], float]
"""Items that an item is to be near to, each with its weight, and the sum of the weights."""
Size = tuple[float, float]

BOX_GAP, DUMMY_GAP, LAYER_GAP, MARGIN = 36.0, 14.0, 44.0, 24.0
_EFFORT = 100_000
"""Approximate number of moves for reducing crossings and for straightening lines; big flowcharts get fewer rounds."""
_ORDERING, _STRAIGHTENING = 24, 200
"""Maximum number of rounds."""


@dataclass(frozen=True)
class Box:
    """A placed node; x and y are its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


@dataclass(frozen=True)
class Line:
    """An edge: from `start` through straight pieces (x, from y, to y) to `end`."""

    start: tuple[float, float]
    through: tuple[tuple[float, float, float], ...]
    end: tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """A placed flowchart. `returning` holds the edges that lead back up and close loops."""

    width: float
    height: float
    boxes: dict[str, Box]
    lines: dict[Hop, Line]
    returning: frozenset[Hop]


def arrange(sizes: Mapping[str, Size], edges: Sequence[Hop], start: str) -> Layout:
    """Positions of boxes of the given sizes, and of the lines between them."""
    returning = returning_edges(sizes, edges, start)
    layer = _layers(sizes, [edge for edge in edges if edge not in returning])
    chains = {(source, to): _chain(source, to, layer) for source, to in edges if source != to}
    neighbors = _neighbors(chains.values())
    order = _order_layers(_initial_layers(sizes, layer, chains.values()), neighbors)
    xs = _assign_x(order, neighbors, sizes)
    bands = _layer_bands(order, neighbors, xs, sizes)
    boxes = {}
    for row, (top, bottom) in zip(order, bands, strict=True):
        for node in (item for item in row if isinstance(item, str)):
            width, height = sizes[node]
            boxes[node] = Box(xs[node] - width / 2, (top + bottom - height) / 2, width, height)
    lines = _route_lines(chains, boxes, xs, {node: bands[at] for node, at in layer.items()}, bands)
    lines |= {(node, node): _self_loop(boxes[node]) for node, to in edges if node == to}
    right = max(x + (sizes[item][0] / 2 if isinstance(item, str) else 0) for item, x in xs.items())
    return Layout(right + MARGIN, bands[-1][1] + MARGIN, boxes, lines, frozenset(returning))


def returning_edges(nodes: Iterable[str], edges: Sequence[Hop], start: str) -> set[Hop]:
    """Back edges of a depth-first search in the author's order; without them the graph is acyclic."""
    out: dict[str, list[str]] = {node: [] for node in nodes}
    for source, to in edges:
        out[source].append(to)
    found, on_the_way, seen = set[Hop](), set[str](), set[str]()
    for root in (start, *out):
        stack = [] if root in seen else [(root, iter(out[root]))]
        on_the_way |= {node for node, _ in stack}
        while stack:
            node, onward = stack[-1]
            seen.add(node)
            for to in onward:
                if to in on_the_way:
                    found.add((node, to))
                elif to not in seen:
                    on_the_way.add(to)
                    stack.append((to, iter(out[to])))
                    break
            else:
                stack.pop()
                on_the_way.discard(node)
    return found


def _layers(nodes: Iterable[str], edges: Sequence[Hop]) -> dict[str, int]:
    """Layer of each node, below all nodes that lead to it."""
    out, waiting_for = defaultdict[str, list[str]](list), dict.fromkeys(nodes, 0)
    for source, to in edges:
        out[source].append(to)
        waiting_for[to] += 1
    layer = {node: 0 for node, count in waiting_for.items() if not count}
    ready = list(layer)
    for node in ready:
        for to in out[node]:
            layer[to] = max(layer.get(to, 0), layer[node] + 1)
            waiting_for[to] -= 1
            if not waiting_for[to]:
                ready.append(to)
    return layer


def _chain(source: str, to: str, layer: Mapping[str, int]) -> tuple[LayerItem, ...]:
    """The items that an edge goes through."""
    down = 1 if layer[to] > layer[source] else -1
    return (source, *((to, at) for at in range(layer[source] + down, layer[to], down)), to)


def _neighbors(chains: Iterable[tuple[LayerItem, ...]]) -> dict[LayerItem, dict[LayerItem, None]]:
    """Items that each item is joined to."""
    neighbors = defaultdict[LayerItem, dict[LayerItem, None]](dict)
    for chain in chains:
        for one, other in pairwise(chain):
            neighbors[one][other] = None
            neighbors[other][one] = None
    return neighbors


def _initial_layers(
    nodes: Iterable[str], layer: Mapping[str, int], chains: Iterable[tuple[LayerItem, ...]]
) -> list[list[LayerItem]]:
    rows: list[list[LayerItem]] = [[] for _ in range(max(layer.values()) + 1)]
    for node in nodes:
        rows[layer[node]].append(node)
    for dummy in dict.fromkeys(item for chain in chains for item in chain if not isinstance(item, str)):
        rows[dummy[1]].append(dummy)
    return rows


def _order_layers(rows: list[list[LayerItem]], neighbors: Neighbors) -> list[list[LayerItem]]:
    """The ordering with the fewest crossings met while moving each item to the mean position of its neighbors."""
    rounds = max(2, min(_ORDERING, _EFFORT // sum(map(len, rows))))
    best, fewest, before = [list(row) for row in rows], _crossings(rows, neighbors), [list[LayerItem]()]
    for turn in range(rounds):
        down = turn % 2 == 0
        if down and rows == before:
            break  # down and up again changed nothing, and so would all that follows
        before = [list(row) for row in rows] if down else before
        indices = range(1, len(rows)) if down else range(len(rows) - 2, -1, -1)
        for index in indices:
            fixed = {item: at for at, item in enumerate(rows[index - 1 if down else index + 1])}
            here = {item: float(at) for at, item in enumerate(rows[index])}
            rows[index].sort(key=lambda item, fixed=fixed, here=here: _mean(item, fixed, here, neighbors))  # type: ignore[misc]
        if (found := _crossings(rows, neighbors)) < fewest:
            best, fewest = [list(row) for row in rows], found
    return best


def _mean(item: LayerItem, fixed: Mapping[LayerItem, int], here: Mapping[LayerItem, float], neighbors: Neighbors) -> float:
    at = [fixed[other] for other in neighbors[item] if other in fixed]
    return sum(at) / len(at) if at else here[item]


def _crossings(rows: Sequence[Sequence[LayerItem]], neighbors: Neighbors) -> int:
    count = 0
    for upper, lower in pairwise(rows):
        below = {item: at for at, item in enumerate(lower)}
        seen: list[int] = []
        for item in upper:
            ends = sorted(below[other] for other in neighbors[item] if other in below)
            count += sum(len(seen) - bisect_left(seen, end + 1) for end in ends)
            for end in ends:
                insort(seen, end)
    return count


def _assign_x(order: Sequence[Sequence[LayerItem]], neighbors: Neighbors, sizes: Mapping[str, Size]) -> dict[LayerItem, float]:
    """Center x of each item: as near to its neighbors as order and gaps allow."""
    offsets = [_offsets(row, sizes) for row in order]
    xs = {item: x for row, packed in zip(order, offsets, strict=True) for item, x in zip(row, packed, strict=True)}
    above = [[_attraction(item, neighbors, upper) for item in row] for upper, row in pairwise([(), *order])]
    below = [[_attraction(item, neighbors, lower) for item in row] for row, lower in pairwise([*order, ()])]
    beside = [[_attraction(item, neighbors, xs) for item in row] for row in order]
    down, up = range(len(order)), range(len(order) - 1, -1, -1)
    rounds = max(2, min(_STRAIGHTENING, _EFFORT // len(xs)))
    for turn in range(rounds):
        attractions = beside if turn >= rounds - 2 else below if turn % 2 else above
        for index in up if turn % 2 else down:
            wanted = [_preferred_x(*pair, xs) for pair in zip(order[index], attractions[index], strict=True)]
            xs |= dict(zip(order[index], _isotonic_fit(wanted, offsets[index]), strict=True))
    left = min(x - (sizes[item][0] / 2 if isinstance(item, str) else 0) for item, x in xs.items())
    return {item: x - left + MARGIN for item, x in xs.items()}


def _attraction(item: LayerItem, neighbors: Neighbors, among: Collection[LayerItem]) -> Attraction:
    """What an item wants to be near to; trunks are attracted most by themselves, so that they are straight."""
    weights = {}
    for other in (other for other in neighbors[item] if other in among):
        of_trunk = isinstance(item, tuple) and isinstance(other, tuple) and item[0] == other[0]
        weights[other] = 8.0 if of_trunk else 1.0 if isinstance(item, str) and isinstance(other, str) else 2.0
    return tuple(weights.items()), sum(weights.values())


def _preferred_x(item: LayerItem, attraction: Attraction, xs: Mapping[LayerItem, float]) -> tuple[float, float]:
    """Preferred x of an item and the weight of that preference."""
    weights, total = attraction
    return (sum([xs[other] * weight for other, weight in weights]) / total, total) if total else (xs[item], 0.1)


def _offsets(row: Sequence[LayerItem], sizes: Mapping[str, Size]) -> list[float]:
    """Offsets of a row packed as tightly as the gaps allow."""
    offsets: list[float] = []
    for one, other in pairwise([None, *row]):
        half = [sizes[item][0] / 2 if isinstance(item, str) else 0.0 for item in (one, other)]
        gap = BOX_GAP if isinstance(one, str) and isinstance(other, str) else DUMMY_GAP
        if isinstance(one, str) != isinstance(other, str):
            gap = (BOX_GAP + DUMMY_GAP) / 2
        offsets.append(offsets[-1] + half[0] + gap + half[1] if one is not None else 0.0)
    return offsets


def _isotonic_fit(wanted: Sequence[tuple[float, float]], offsets: Sequence[float]) -> list[float]:
    """Least-squares fit to the preferred positions that keeps order and gaps (isotonic regression)."""
    blocks: list[tuple[float, float, int]] = []
    for (x, weight), offset in zip(wanted, offsets, strict=True):
        block = (x - offset, weight, 1)
        while blocks and blocks[-1][0] > block[0]:
            x_before, weight_before, count_before = blocks.pop()
            total = weight_before + block[1]
            block = ((x_before * weight_before + block[0] * block[1]) / total, total, count_before + block[2])
        blocks.append(block)
    return [x + offset for x, offset in zip((x for x, _, count in blocks for _ in range(count)), offsets, strict=True)]


def _layer_bands(
    order: Sequence[Sequence[LayerItem]], neighbors: Neighbors, xs: Mapping[LayerItem, float], sizes: Mapping[str, Size]
) -> list[tuple[float, float]]:
    """Top and bottom of each layer; lines that go far sideways get more space below."""
    bands, top = [], MARGIN
    for at, row in enumerate(order):
        height = max((sizes[item][1] for item in row if isinstance(item, str)), default=0.0)
        bands.append((top, top + height))
        below = {item for after in order[at + 1 : at + 2] for item in after}
        aside = max((abs(xs[item] - xs[other]) for item in row for other in neighbors[item] if other in below), default=0.0)
        top += height + LAYER_GAP + min(LAYER_GAP, aside / 12)
    return bands


def _route_lines(
    chains: Mapping[Hop, tuple[LayerItem, ...]],
    boxes: Mapping[str, Box],
    xs: Mapping[LayerItem, float],
    band_of: Mapping[str, tuple[float, float]],
    bands: Sequence[tuple[float, float]],
) -> dict[Hop, Line]:
    ports = _ports(chains, boxes, xs)
    lines = {}
    for (source, to), chain in chains.items():
        down = boxes[source].y < boxes[to].y
        start, end = ports[source, chain[1], True], ports[to, chain[-2], False]
        pieces = [
            (xs[dummy], *(bands[dummy[1]] if down else bands[dummy[1]][::-1])) for dummy in chain if not isinstance(dummy, str)
        ]
        # Leave the layer before bending, and bend before entering the other: neighboring boxes may be taller.
        leaving, entering = (start[0], start[1], band_of[source][down]), (end[0], band_of[to][not down], end[1])
        lines[source, to] = Line(start, (leaving, *pieces, entering), end)
    return lines


def _ports(
    chains: Mapping[Hop, tuple[LayerItem, ...]], boxes: Mapping[str, Box], xs: Mapping[LayerItem, float]
) -> dict[tuple[str, LayerItem, bool], tuple[float, float]]:
    """Points where lines leave (`True`) and enter (`False`) a box, side by side in the order of their other ends."""
    sides = defaultdict[tuple[str, bool], dict[tuple[LayerItem, bool], None]](dict)
    for (source, to), chain in chains.items():
        down = boxes[source].y < boxes[to].y
        sides[source, down][chain[1], True] = None
        sides[to, not down][chain[-2], False] = None
    ports = {}
    for (node, bottom), ends in sides.items():
        box, y = boxes[node], boxes[node].y + (boxes[node].height if bottom else 0)
        for index, (item, leaving) in enumerate(sorted(ends, key=lambda end: (xs[end[0]], end[1] != bottom)), start=1):
            ports[node, item, leaving] = (box.x + box.width * index / (len(ends) + 1), y)
    return ports


def _self_loop(box: Box) -> Line:
    """A loop out of a node's right side and back."""
    right, out = box.x + box.width, box.x + box.width + BOX_GAP / 2
    return Line(
        (right, box.y + box.height * 0.3),
        ((out, box.y + box.height * 0.4, box.y + box.height * 0.6),),
        (right, box.y + box.height * 0.7),
    )
