"""The most expensive procedures to check that an API server accepts, one for each way to be expensive. Deterministic."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from subterra_core.procedure.lint.size import MAX_BYTES

Spec = dict[str, Any]

NODES, EDGES, VARIABLES, EXAMPLES = 500, 20, 100, 50
"""Upper limits of the schema."""
_KEPT_FREE = 6 * 1024
"""Bytes below the limit for what a builder does not count, such as openers."""
_END = {"id": "end", "role": "agent", "prompt": "Bye.", "outcome": "success"}


def _spec(nodes: list[Spec], **fields: Any) -> Spec:
    return {"systemPrompt": "You help.", "start": str(nodes[0]["id"]), "nodes": [*nodes, _END], **fields}


def _size(value: Any) -> int:
    return len(json.dumps(value, separators=(",", ":")))


def _filled(spec: Spec, size: int) -> Spec:
    """`spec` with examples at its customers' nodes until it has about `size` bytes."""
    left = size - _KEPT_FREE - _size(spec)
    speakers = [node for node in spec["nodes"] if node["role"] == "user"]
    each = max(0, left // max(1, len(speakers)) - 16)
    for node in speakers:
        count = min(EXAMPLES, max(1, each // 40))
        length = min(1000, each // count - 3)
        if length > 0:
            node["examples"] = [f"{number:02} {'x' * length}"[:length] for number in range(count)]
    return spec


def _ring(count: int, edges: int, **fields: Any) -> list[Spec]:
    """Customers' nodes in a ring, each with `edges` edges: to the next ones, the last to the end."""
    nodes = []
    for index in range(count):
        targets = [f"n{(index + step + 1) % count}" for step in range(edges - 1)]
        ways = [{"to": to, "when": f"case {number}"} for number, to in enumerate([*targets, "end"])]
        nodes.append({"id": f"n{index}", "role": "user", "next": ways, **fields})
    return nodes


def mentions(size: int = MAX_BYTES) -> Spec:
    """Long examples at every hub, and the most variables: whether each is known has to be found out for each edge."""
    names = [f"v{number}" for number in range(VARIABLES)]
    agent = {"id": "say", "role": "agent", "prompt": " ".join(f"{{{{{name}}}}}" for name in names), "next": [{"to": "n0"}]}
    variables = [{"name": name, "values": ["a", "b"]} for name in names]
    return _filled(_spec([agent, *_ring(NODES - 2, 9)], variables=variables), size)


def knot(size: int = MAX_BYTES) -> Spec:
    """One loop through all nodes, each with the most edges and visits."""
    return _filled(_spec(_ring(NODES - 1, EDGES, maxVisits=10)), size)


def guards(size: int = MAX_BYTES) -> Spec:
    """A knot in which every hub's decision is remembered, and edges depend on many of them."""
    nodes = _ring(NODES - 1, 8, maxVisits=10)
    for index, node in enumerate(nodes):
        edge = node["next"][0]
        edge["guards"] = [{"hub": f"n{(index + 7 * step) % len(nodes)}", "took": ["end"]} for step in range(10)]
        edge["guards"][0]["took"] = [way["to"] for way in nodes[index]["next"]]
    return _filled(_spec(nodes), size)


def facts(size: int = MAX_BYTES) -> Spec:
    """Hubs decided by facts with many values, in a knot."""
    values = [f"{number}" for number in range(400)]
    variables = [{"name": f"v{number}", "values": values, "visibility": "context"} for number in range(VARIABLES)]
    nodes: list[Spec] = []
    count = 300
    for index in range(count):
        ways: list[Spec] = [{"to": f"n{(index + step + 1) % count}", "values": [values[step]]} for step in range(10)]
        name = f"v{index % VARIABLES}"
        node: Spec = {"id": f"n{index}", "role": "user", "decidedBy": "fact", "fact": name, "maxVisits": 10}
        nodes.append({**node, "next": [*ways, {"to": "end"}]})
    return _filled(_spec(nodes, variables=variables), size)


def conditions(size: int = MAX_BYTES) -> Spec:
    """Hubs with the most edges, whose conditions and examples have to be compared in pairs."""
    nodes = _ring(60, EDGES)
    each = (size - _KEPT_FREE - _size(nodes)) // (60 * EDGES)
    for node in nodes:
        for number, edge in enumerate(node["next"]):
            edge["when"] = " ".join([f"w{number}", *["a b c"] * 12])
            edge["examples"] = [f"{number} {text}" for text in range(min(EXAMPLES, (each - 60) // 8))]
    return _spec(nodes)


def exclusive(size: int = MAX_BYTES) -> Spec:
    """Edges with the most guards, of which pairs may exclude each other."""
    count = max(2, (size - _KEPT_FREE) // (EDGES * 400))
    nodes = _ring(count, EDGES)
    for node in nodes:
        for edge in node["next"]:
            edge["guards"] = [{"hub": f"n{hub % count}", "took": ["end", "n1"]} for hub in range(10)]
    return _spec(nodes)


def terminals(size: int = MAX_BYTES) -> Spec:
    """Half of all nodes are ends."""
    ends = [{**_END, "id": f"e{number}"} for number in range(NODES // 2 - 1)]
    nodes = _ring(NODES // 2, EDGES)
    for index, node in enumerate(nodes):
        node["next"][0] = {"to": f"e{index % len(ends)}", "when": "case 0"}
        node["next"][1]["to"] = f"n{(index + 1) % len(nodes)}"
    return _filled(_spec([*nodes, *ends]), size)


def texts(size: int = MAX_BYTES) -> Spec:
    """As many texts as fit, of a few characters each, with a variable in every one of them."""
    nodes = _ring(NODES - 1, 3)
    left = (size - _KEPT_FREE - _size(nodes)) // (8 * len(nodes))
    for node in nodes:
        node["examples"] = ["{{a}}"] * min(EXAMPLES, left // 2)
        for edge in node["next"]:
            edge["examples"] = [
                f"{edge['to'][-1:]}{number}" for number in range(max(0, min(EXAMPLES, left - len(node["examples"])) // 3))
            ]
    return _spec(nodes, variables=[{"name": "a", "values": ["b"]}])


def mistakes(size: int = MAX_BYTES) -> Spec:
    """A mistake in everything: each edge and each text has a finding."""
    nodes = _ring(NODES - 1, EDGES)
    for node in nodes:
        for edge in node["next"]:
            edge |= {"when": "x", "values": ["a"]}
    for node in nodes:
        left = (size - _KEPT_FREE - _size(nodes[0]) * len(nodes)) // len(nodes)
        node["examples"] = ["{{b}}"] * max(0, min(EXAMPLES, left // 9))
    return _spec(nodes)


def objects(size: int = MAX_BYTES) -> Spec:
    """As many objects as fit: guards without end."""
    count = min(NODES - 1, (size - _KEPT_FREE) // (EDGES * 290))
    nodes = _ring(count, EDGES)
    for node in nodes:
        for edge in node["next"]:
            edge["guards"] = [{"hub": "a", "took": ["b"]}] * 10
    return _spec(nodes)


def chain(size: int = MAX_BYTES) -> Spec:
    """As long as conversations get: each node is repeated, and every fact and decision matters until the end."""
    names = [f"v{number}" for number in range(VARIABLES)]
    nodes: list[Spec] = []
    for index in range((NODES - 1) // 2):
        after = f"a{index + 1}" if index + 1 < (NODES - 1) // 2 else "end"
        ways: list[Spec] = [{"to": f"a{index}", "when": "Again."}, {"to": after, "when": "On."}]
        nodes.append({"id": f"a{index}", "role": "agent", "prompt": "Ask.", "maxVisits": 10, "next": [{"to": f"u{index}"}]})
        nodes.append({"id": f"u{index}", "role": "user", "maxVisits": 10, "next": ways})
    nodes[-1]["next"][1]["guards"] = [{"hub": f"u{number}", "took": [f"a{number + 1}"]} for number in range(10)]
    return _filled(_spec(nodes, variables=[{"name": name, "values": ["a", "b"]} for name in names]), size)


def remembered(size: int = MAX_BYTES) -> Spec:
    """Every hub's decision matters at the end, so that no two walks are ever the same."""
    count = 240
    nodes = []
    for index in range(count):
        onward = [{"to": f"n{index + step}", "when": f"case {step}"} for step in (1, 2)]
        nodes.append({"id": f"n{index}", "role": "user", "next": onward})
    closing: list[Spec] = []
    for index in range(count, count + 24):
        hubs = [(index - count) * 10 + step for step in range(10)]
        guarded = [{"hub": f"n{hub}", "took": [f"n{hub + 1}"]} for hub in hubs if hub < count]
        ways: list[Spec] = [{"to": f"n{index + 1}", "when": "case 0", "guards": guarded}, {"to": "end", "when": "case 1"}]
        closing.append({"id": f"n{index}", "role": "user", "next": ways})
    closing[-1]["next"][0]["to"] = "n0"
    return _filled(_spec([*nodes, *closing]), size)


SHAPES: dict[str, Callable[[int], Spec]] = {
    shape.__name__: shape
    for shape in (mentions, knot, guards, facts, conditions, exclusive, terminals, texts, mistakes, objects, chain, remembered)
}


def worst_procedures(size: int = MAX_BYTES) -> Iterator[tuple[str, Spec]]:
    """The spec of each shape, with its name, of at most `size` bytes where the schema's limits allow as many."""
    for name, shape in SHAPES.items():
        yield name, shape(size)
