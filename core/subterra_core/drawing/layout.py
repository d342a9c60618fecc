"""Where the boxes and lines of a flowchart go: layers from top to bottom, after Sugiyama. Pure; draws nothing.

Ways to the same node run through the same *bends*, one per layer that they pass. So they merge into one trunk: ten ways to the
human colleague are one line that ten short ones join, which a person can follow and ten parallel ones cannot.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from subterra_core.procedure.graph import Hop

Bend = tuple[str, int]
"""Where the ways to a node pass a layer."""
Place = str | Bend
Size = tuple[float, float]

BOX_GAP, BEND_GAP, LAYER_GAP, MARGIN = 36.0, 14.0, 44.0, 24.0
_EFFORT = 100_000
"""Places that are moved while crossings are reduced and lines straightened, about; big flowcharts get fewer rounds."""
_ORDERING, _STRAIGHTENING = 24, 200
"""Rounds at most."""


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
    """A way from one node to another: from the first point through straight pieces (x, from y, to y) to the last point."""

    start: tuple[float, float]
    through: tuple[tuple[float, float, float], ...]
    end: tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """A placed flowchart. ``returning`` holds the edges that lead back up and so close loops."""

    width: float
    height: float
    boxes: dict[str, Box]
    lines: dict[Hop, Line]
    returning: frozenset[Hop]


def arrange(sizes: Mapping[str, Size], edges: Sequence[Hop], start: str) -> Layout:
    """Places boxes of the given sizes and the lines between them."""
    returning = returning_edges(sizes, edges, start)
    layer = _layers(sizes, [edge for edge in edges if edge not in returning])
    chains = {(source, to): _chain(source, to, layer) for source, to in edges if source != to}
    links = _links(chains.values())
    order = _ordered(_rows(sizes, layer, chains.values()), links)
    xs = _across(order, links, sizes)
    bands = _bands(order, links, xs, sizes)
    boxes = {}
    for row, (top, bottom) in zip(order, bands, strict=True):
        for node in (place for place in row if isinstance(place, str)):
            width, height = sizes[node]
            boxes[node] = Box(xs[node] - width / 2, (top + bottom - height) / 2, width, height)
    lines = _lines(chains, boxes, xs, {node: bands[at] for node, at in layer.items()}, bands)
    lines |= {(node, node): _round_trip(boxes[node]) for node, to in edges if node == to}
    right = max(x + (sizes[place][0] / 2 if isinstance(place, str) else 0) for place, x in xs.items())
    return Layout(right + MARGIN, bands[-1][1] + MARGIN, boxes, lines, frozenset(returning))


def returning_edges(nodes: Iterable[str], edges: Sequence[Hop], start: str) -> set[Hop]:
    """Edges that lead back to a node through which a walk in the author's order came; without them there is no loop."""
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
    """Each node below all that lead to it."""
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


def _chain(source: str, to: str, layer: Mapping[str, int]) -> tuple[Place, ...]:
    """The places that a way goes through."""
    down = 1 if layer[to] > layer[source] else -1
    return (source, *((to, at) for at in range(layer[source] + down, layer[to], down)), to)


def _links(chains: Iterable[tuple[Place, ...]]) -> dict[Place, set[Place]]:
    """What each place is joined to, above and below."""
    links = defaultdict[Place, set[Place]](set)
    for chain in chains:
        for one, other in pairwise(chain):
            links[one].add(other)
            links[other].add(one)
    return links


def _rows(nodes: Iterable[str], layer: Mapping[str, int], chains: Iterable[tuple[Place, ...]]) -> list[list[Place]]:
    rows: list[list[Place]] = [[] for _ in range(max(layer.values()) + 1)]
    for node in nodes:
        rows[layer[node]].append(node)
    for bend in dict.fromkeys(place for chain in chains for place in chain if not isinstance(place, str)):
        rows[bend[1]].append(bend)
    return rows


def _ordered(rows: list[list[Place]], links: Mapping[Place, set[Place]]) -> list[list[Place]]:
    """The rows in the order with the fewest crossings that was met while each place was moved to the middle of its neighbours."""
    rounds = max(2, min(_ORDERING, _EFFORT // sum(map(len, rows))))
    best, fewest = [list(row) for row in rows], _crossings(rows, links)
    for turn in range(rounds):
        down = turn % 2 == 0
        indices = range(1, len(rows)) if down else range(len(rows) - 2, -1, -1)
        for index in indices:
            fixed = {place: at for at, place in enumerate(rows[index - 1 if down else index + 1])}
            here = {place: float(at) for at, place in enumerate(rows[index])}
            rows[index].sort(key=lambda place, fixed=fixed, here=here: _mean(place, fixed, here, links))  # type: ignore[misc]
        if (found := _crossings(rows, links)) < fewest:
            best, fewest = [list(row) for row in rows], found
    return best


def _mean(place: Place, fixed: Mapping[Place, int], here: Mapping[Place, float], links: Mapping[Place, set[Place]]) -> float:
    at = [fixed[other] for other in links[place] if other in fixed]
    return sum(at) / len(at) if at else here[place]


def _crossings(rows: Sequence[Sequence[Place]], links: Mapping[Place, set[Place]]) -> int:
    count = 0
    for upper, lower in pairwise(rows):
        below = {place: at for at, place in enumerate(lower)}
        seen: list[int] = []
        for place in upper:
            ends = sorted(below[other] for other in links[place] if other in below)
            count += sum(len(seen) - bisect_left(seen, end + 1) for end in ends)
            for end in ends:
                insort(seen, end)
    return count


def _across(order: Sequence[Sequence[Place]], links: Mapping[Place, set[Place]], sizes: Mapping[str, Size]) -> dict[Place, float]:
    """The x of each place's middle: as near to its neighbours' as the order and the gaps allow."""
    xs: dict[Place, float] = {}
    for row in order:
        xs |= dict(zip(row, _offsets(row, sizes), strict=True))
    down, up = range(len(order)), range(len(order) - 1, -1, -1)
    rounds = max(2, min(_STRAIGHTENING, _EFFORT // len(xs)))
    for turn in range(rounds):
        for index in down if turn % 2 == 0 else up:
            row = order[index]
            near = order[index - 1 : index] if turn % 2 == 0 else order[index + 1 : index + 2]
            beside = {place for other in near for place in other} if turn < rounds - 2 else xs.keys()
            wanted = [_wanted(place, beside, links, xs) for place in row]
            xs |= dict(zip(row, _spread(wanted, _offsets(row, sizes)), strict=True))
    left = min(x - (sizes[place][0] / 2 if isinstance(place, str) else 0) for place, x in xs.items())
    return {place: x - left + MARGIN for place, x in xs.items()}


def _wanted(
    place: Place, beside: Iterable[Place], links: Mapping[Place, set[Place]], xs: Mapping[Place, float]
) -> tuple[float, float]:
    """Where a place would like to be, and how much; trunks most of all, so that they are straight."""
    weights = {
        other: 1.0 if isinstance(place, str) and isinstance(other, str) else 2.0 for other in links[place] if other in beside
    }
    if not isinstance(place, str):
        weights = {other: 8.0 if isinstance(other, tuple) and other[0] == place[0] else weight for other, weight in weights.items()}
    total = sum(weights.values())
    return (sum(xs[other] * weight for other, weight in weights.items()) / total, total) if total else (xs[place], 0.1)


def _offsets(row: Sequence[Place], sizes: Mapping[str, Size]) -> list[float]:
    """The row packed as tightly as the gaps allow."""
    offsets: list[float] = []
    for one, other in pairwise([None, *row]):
        half = [sizes[place][0] / 2 if isinstance(place, str) else 0.0 for place in (one, other)]
        gap = BOX_GAP if isinstance(one, str) and isinstance(other, str) else BEND_GAP
        if isinstance(one, str) != isinstance(other, str):
            gap = (BOX_GAP + BEND_GAP) / 2
        offsets.append(offsets[-1] + half[0] + gap + half[1] if one is not None else 0.0)
    return offsets


def _spread(wanted: Sequence[tuple[float, float]], offsets: Sequence[float]) -> list[float]:
    """The places nearest to the wanted ones in the least squares sense that keep order and gaps (isotonic regression)."""
    blocks: list[tuple[float, float, int]] = []
    for (x, weight), offset in zip(wanted, offsets, strict=True):
        block = (x - offset, weight, 1)
        while blocks and blocks[-1][0] > block[0]:
            x_before, weight_before, count_before = blocks.pop()
            total = weight_before + block[1]
            block = ((x_before * weight_before + block[0] * block[1]) / total, total, count_before + block[2])
        blocks.append(block)
    return [x + offset for x, offset in zip((x for x, _, count in blocks for _ in range(count)), offsets, strict=True)]


def _bands(
    order: Sequence[Sequence[Place]], links: Mapping[Place, set[Place]], xs: Mapping[Place, float], sizes: Mapping[str, Size]
) -> list[tuple[float, float]]:
    """Top and bottom of each layer; where lines go far to the side, the next is further down."""
    bands, top = [], MARGIN
    for at, row in enumerate(order):
        height = max((sizes[place][1] for place in row if isinstance(place, str)), default=0.0)
        bands.append((top, top + height))
        below = {place for after in order[at + 1 : at + 2] for place in after}
        aside = max((abs(xs[place] - xs[other]) for place in row for other in links[place] if other in below), default=0.0)
        top += height + LAYER_GAP + min(LAYER_GAP, aside / 12)
    return bands


def _lines(
    chains: Mapping[Hop, tuple[Place, ...]],
    boxes: Mapping[str, Box],
    xs: Mapping[Place, float],
    band_of: Mapping[str, tuple[float, float]],
    bands: Sequence[tuple[float, float]],
) -> dict[Hop, Line]:
    ports = _ports(chains, boxes, xs)
    lines = {}
    for (source, to), chain in chains.items():
        down = boxes[source].y < boxes[to].y
        start, end = ports[source, chain[1], True], ports[to, chain[-2], False]
        pieces = [(xs[bend], *(bands[bend[1]] if down else bands[bend[1]][::-1])) for bend in chain if not isinstance(bend, str)]
        # Out of the layer first, and into the other at last: neighbours may be taller.
        leaving, entering = (start[0], start[1], band_of[source][down]), (end[0], band_of[to][not down], end[1])
        lines[source, to] = Line(start, (leaving, *pieces, entering), end)
    return lines


def _ports(
    chains: Mapping[Hop, tuple[Place, ...]], boxes: Mapping[str, Box], xs: Mapping[Place, float]
) -> dict[tuple[str, Place, bool], tuple[float, float]]:
    """Where lines leave (True) and enter (False) a box, side by side in the order in which they come."""
    sides = defaultdict[tuple[str, bool], dict[tuple[Place, bool], None]](dict)
    for (source, to), chain in chains.items():
        down = boxes[source].y < boxes[to].y
        sides[source, down][chain[1], True] = None
        sides[to, not down][chain[-2], False] = None
    ports = {}
    for (node, bottom), ends in sides.items():
        box, y = boxes[node], boxes[node].y + (boxes[node].height if bottom else 0)
        for index, (place, leaving) in enumerate(sorted(ends, key=lambda end: (xs[end[0]], end[1] != bottom)), start=1):
            ports[node, place, leaving] = (box.x + box.width * index / (len(ends) + 1), y)
    return ports


def _round_trip(box: Box) -> Line:
    """From a node's right side out and back."""
    right, out = box.x + box.width, box.x + box.width + BOX_GAP / 2
    return Line(
        (right, box.y + box.height * 0.3),
        ((out, box.y + box.height * 0.4, box.y + box.height * 0.6),),
        (right, box.y + box.height * 0.7),
    )
