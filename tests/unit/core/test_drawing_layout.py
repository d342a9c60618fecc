"""Pictures can be read: boxes never overlap, lines end at their boxes and pass no others, loops are seen as such."""

import random
from itertools import pairwise

import pytest

from subterra_core.drawing.layout import Box, Layout, Size, arrange, returning_edges

Hops = list[tuple[str, str]]


def flowchart(seed: int, count: int = 55) -> tuple[dict[str, Size], Hops]:
    """Boxes of different sizes in a chain, with ways ahead, ways back and a way to itself."""
    rng = random.Random(seed)
    ids = [f"n{number}" for number in range(count)]
    edges = {(one, other) for one, other in pairwise(ids) if rng.random() < 0.8}
    edges |= {(ids[rng.randrange(at)], ids[at]) for at in range(1, count)}
    edges |= {tuple(rng.sample(ids, 2)) for _ in range(count // 4)} | {(ids[3], ids[3])}  # type: ignore[misc]
    return {node: (rng.choice([120.0, 200.0, 300.0]), rng.choice([40.0, 90.0])) for node in ids}, sorted(edges)


@pytest.fixture(params=range(3), scope="module")
def drawn(request: pytest.FixtureRequest) -> tuple[Layout, Hops]:
    sizes, edges = flowchart(request.param)
    return arrange(sizes, edges, "n0"), edges


def inside(box: Box, x: float, y: float, slack: float = -1) -> bool:
    return box.x - slack < x < box.x + box.width + slack and box.y - slack < y < box.y + box.height + slack


def test_no_two_boxes_touch(drawn: tuple[Layout, Hops]) -> None:
    boxes = list(drawn[0].boxes.values())
    for at, one in enumerate(boxes):
        for other in boxes[:at]:
            apart_across = one.x + one.width < other.x or other.x + other.width < one.x
            assert apart_across or one.y + one.height < other.y or other.y + other.height < one.y


def test_everything_is_within_the_picture(drawn: tuple[Layout, Hops]) -> None:
    layout = drawn[0]
    for box in layout.boxes.values():
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + box.width <= layout.width
        assert box.y + box.height <= layout.height


def test_every_line_leads_from_its_box_to_its_box_and_through_no_other(drawn: tuple[Layout, Hops]) -> None:
    layout, edges = drawn
    assert set(layout.lines) == set(edges)
    for (source, to), line in layout.lines.items():
        assert inside(layout.boxes[source], *line.start, slack=0.1)
        assert inside(layout.boxes[to], *line.end, slack=0.1)
        for x, upper, lower in line.through:
            assert not any(inside(box, x, (upper + lower) / 2) for box in layout.boxes.values())


def test_lines_go_down_but_those_that_close_a_loop(drawn: tuple[Layout, Hops]) -> None:
    layout, edges = drawn
    for source, to in edges:
        upwards = layout.boxes[to].y + layout.boxes[to].height < layout.boxes[source].y
        assert upwards == ((source, to) in layout.returning and source != to)


def test_ways_to_the_same_node_merge_into_one_trunk() -> None:
    sizes = dict.fromkeys(("a", "b", "c", "d", "end"), (100.0, 40.0))
    edges = [("a", "b"), ("b", "c"), ("c", "d"), ("a", "end"), ("b", "end"), ("d", "end")]
    lines = arrange(sizes, edges, "a").lines
    assert lines["b", "end"].through[1:] == lines["a", "end"].through[2:]
    assert lines["b", "end"].end == lines["a", "end"].end != lines["d", "end"].end


def test_a_way_back_is_one_that_leads_where_the_walk_came_from() -> None:
    edges = [("a", "b"), ("b", "a"), ("b", "c"), ("c", "c"), ("a", "c")]
    assert returning_edges("abc", edges, "a") == {("b", "a"), ("c", "c")}


def test_the_same_flowchart_gives_the_same_picture_whatever_the_hashes_of_its_names_are() -> None:
    """Each new name has another hash, as the same name has in another process."""
    sizes, edges = flowchart(1, count=20)
    drawn = arrange(sizes, edges, "n0")
    for turn in range(4):
        new = {node: f"{node}-{turn}" for node in sizes}
        again = arrange({new[node]: size for node, size in sizes.items()}, [(new[one], new[to]) for one, to in edges], new["n0"])
        assert again.boxes == {new[node]: box for node, box in drawn.boxes.items()}
        assert again.lines == {(new[one], new[to]): line for (one, to), line in drawn.lines.items()}
