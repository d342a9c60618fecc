"""Procedures, paths and differences as text for people and as data for scripts."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from subterra_api.digest import procedure_digest
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.html_page import page
from subterra_cli.load_procedure import Source
from subterra_cli.mermaid import mermaid
from subterra_cli.procedure_diff import Changes, Difference
from subterra_core.drawing.summary import Visits, clean, condition, described, endings, loops
from subterra_core.drawing.svg import draw
from subterra_core.procedure.graph import Graph, Path
from subterra_core.procedure.lint.findings import Analysis

_PIPED_WIDTH = 160
_SHOWN_PATHS = 5


def summary(analysis: Analysis) -> str:
    """One line: what the procedure amounts to."""
    turns = f"{analysis.min_turns} to {analysis.max_turns or 'more'} turns"
    return f"{analysis.nodes} nodes, {analysis.hubs} hubs, {analysis.terminals} terminals, {analysis.path_count} paths of {turns}"


def as_json(data: Any) -> str:
    """Indented JSON with a line end."""
    return json.dumps(data, indent=2, ensure_ascii=False)


def graph_data(name: str, spec: ProcedureSpec, analysis: Analysis, visits: Visits | None) -> dict[str, Any]:
    """Everything about a procedure's graph."""
    ends = endings(spec)
    return {
        "name": name,
        "digest": procedure_digest(spec),
        "nodes": analysis.nodes,
        "edges": analysis.edges,
        "hubs": analysis.hubs,
        "terminals": analysis.terminals,
        "paths": analysis.paths,
        "paths_truncated": analysis.truncated,
        "min_turns": analysis.min_turns,
        "max_turns": analysis.max_turns,
        "endings": [
            {"node": node.id, "outcome": node.outcome, "paths": ends and ends[node.id]} for node in spec.nodes if not node.next
        ],
        "loops": loops(spec),
        "conversations": visits and visits.conversations,
        "graph": described(spec, visits),
    }


def graph_table(spec: ProcedureSpec, analysis: Analysis, visits: Visits | None) -> None:
    """Prints summary, endings, loops, and a row for each edge."""
    out = console()
    ends, bounds = endings(spec), {node.id: node.max_visits for node in spec.nodes}
    out.print(summary(analysis))
    for node in spec.nodes:
        if not node.next:
            out.print(f"  ends in {node.outcome} at {node.id}" + (f": {ends[node.id]:,} paths" if ends else ""))
    for loop in loops(spec):
        out.print("  loop of " + ", ".join(f"{node} (at most {bounds[node]}×)" for node in loop))
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    for title in ("FROM", "SPEAKER", "TO", "WHEN"):
        table.add_column(title, overflow="fold")
    if visits:
        table.add_column("VISITS", justify="right")
    for node in spec.nodes:
        speaker = "agent" if node.role == "agent" else "customer"
        for place, edge in enumerate(node.next):
            taken = visits.edges.get((node.id, edge.to), 0) if visits else None
            count = [Text(f"{taken:,}", style="" if taken else "red")] if taken is not None else []
            first = (node.id, speaker) if place == 0 else ("", "")
            table.add_row(*first, edge.to, Text(clean(condition(node, edge))), *count)
    out.print(table)


def picture(kind: str, source: Source, visits: Visits | None) -> str:
    """The procedure as Mermaid, SVG or HTML."""
    if kind == "mermaid":
        return mermaid(source.spec, visits)
    if kind == "svg":
        return ET.tostring(draw(source.spec, source.name, visits), encoding="unicode") + "\n"
    return page(source.spec, source.name, summary(source.analysis), source.analysis, visits)


def some_paths(spec: ProcedureSpec, outcome: str | None, limit: int) -> tuple[list[Path], bool]:
    """At most ``limit`` paths with this outcome, and whether there are more."""
    ends = {node.id for node in spec.nodes if not node.next and outcome in (None, node.outcome)}
    found = list(islice((path for path in Graph(spec).paths() if path[-1] in ends), limit + 1))
    return found[:limit], len(found) > limit


def path_data(spec: ProcedureSpec, path: Path) -> dict[str, Any]:
    """One path for scripts."""
    graph = Graph(spec)
    return {"turns": len(path), "outcome": graph.nodes[path[-1]].outcome, "nodes": path}


def path_lines(spec: ProcedureSpec, paths: Iterable[Path]) -> Iterable[str]:
    """One line for each path."""
    outcome = {node.id: node.outcome for node in spec.nodes}
    return (f"{len(path):3d} turns  {outcome[path[-1]]:11s}  {' → '.join(path)}" for path in paths)


def difference_data(found: Difference) -> dict[str, Any]:
    """A difference for scripts."""
    return asdict(found) | {"rewrite": asdict(found.rewrite) | {"share": round(found.rewrite.share, 4)}}


def difference_lines(found: Difference) -> Iterable[str]:
    """A difference for people."""
    if not found.new_run:
        yield "no difference in meaning: no new run"
        return
    for kind, changes in (("node", found.nodes), ("edge", found.edges), ("variable", found.variables)):
        yield from _changes(kind, changes)
    yield from (f"~ {name}" for name in found.settings)
    yield from _paths(found)
    rewrite = found.rewrite
    drawn = f"in {rewrite.conversations:,} conversations drawn by the edges' weights"
    yield f"turns at or after a change: {rewrite.share:.1%} of {rewrite.turns:,}, {drawn}"
    yield "a new run compiles this"


def _changes(kind: str, changes: Changes) -> Iterable[str]:
    yield from (f"+ {kind} {name}" for name in changes.added)
    yield from (f"- {kind} {name}" for name in changes.removed)
    yield from (f"~ {kind} {name}: {', '.join(fields)}" for name, fields in changes.changed.items())


def _paths(found: Difference) -> Iterable[str]:
    if found.gained is None or found.lost is None:
        yield "paths: too many to compare one by one"
        return
    yield f"paths: {len(found.gained):,} gained, {len(found.lost):,} lost"
    for sign, paths in (("+", found.gained), ("-", found.lost)):
        yield from (f"  {sign} {' → '.join(path)}" for path in paths[:_SHOWN_PATHS])
        if len(paths) > _SHOWN_PATHS:
            yield f"  {sign} … and {len(paths) - _SHOWN_PATHS:,} more"


def console() -> Console:
    """Where tables go; wide when nobody looks."""
    found = Console(highlight=False, markup=False)
    return found if found.is_terminal else Console(highlight=False, markup=False, width=_PIPED_WIDTH)
