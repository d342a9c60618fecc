"""Procedures, paths and differences as text and as JSON data."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from subterra_api.digest import procedure_digest
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.files.lint_report import LintReport
from subterra_cli.files.load_procedure import LoadedProcedure
from subterra_cli.output.html_page import page
from subterra_cli.output.mermaid import mermaid
from subterra_cli.procedure_diff import DiffReport
from subterra_core.drawing.anywhere_box import drawn_nodes, with_box
from subterra_core.drawing.graph_summary import TraversalCounts, clean, condition_label, loops, paths_per_terminal, to_dict
from subterra_core.drawing.svg import draw_svg
from subterra_core.procedure.anywhere import reached_only_by_leaving
from subterra_core.procedure.diff import Changes
from subterra_core.procedure.graph import Graph, Path
from subterra_core.procedure.lint.findings import Analysis
from subterra_core.procedure.text import SPEAKERS

_PIPED_WIDTH = 160
_SHOWN_PATHS = 5


def counted(count: int, noun: str) -> str:
    """Such as ``1 turn`` or ``1,200 turns``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def summary(analysis: Analysis) -> str:
    """One line with the procedure's counts."""
    least, most = analysis.min_turns, analysis.max_turns
    turns = counted(most, "turn") if most and most == least else f"{least} to {most or 'more'} turns"
    paths = f"{analysis.path_count} path{'' if analysis.path_count == '1' else 's'} of {turns}"
    kinds = {"node": analysis.nodes, "hub": analysis.hubs, "terminal": analysis.terminals}
    counts = ", ".join([*(counted(count, kind) for kind, count in kinds.items()), paths])
    beyond = []
    if analysis.anywhere:
        edges = counted(analysis.anywhere, "anywhere edge")
        beyond.append(f"{edges}, by which a conversation may leave at {analysis.leaving_nodes} of the customer's nodes")
    if analysis.questions:
        beyond.append(f"{counted(analysis.questions, 'question')} that may be asked in between")
    return f"{counts}, not counting {', and '.join(beyond)}" if beyond else counts


def lint_summary(reports: Sequence[LintReport]) -> Iterator[str]:
    """A line for each object without errors; with its name if there are several."""
    for report in reports:
        if report.errors:
            continue
        counts = summary(report.analysis) if report.analysis else "no errors"
        yield counts if len(reports) == 1 else f"{report.file}: {report.name}: {counts}"


def lint_data(reports: Sequence[LintReport]) -> dict[str, Any]:
    """Findings as JSON data: of one object, or of each of several."""
    if len(reports) == 1:
        return reports[0].data()
    return {"errors": sum(report.errors for report in reports), "objects": [report.data() for report in reports]}


def as_json(data: Any) -> str:
    """Indented JSON."""
    return json.dumps(data, indent=2, ensure_ascii=False)


def graph_data(name: str, spec: ProcedureSpec, analysis: Analysis, counts: TraversalCounts | None) -> dict[str, Any]:
    """A procedure's graph as JSON data."""
    ends = paths_per_terminal(spec)
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
        **({"anywhere_edges": analysis.anywhere, "leaving_nodes": analysis.leaving_nodes} if analysis.anywhere else {}),
        **({"questions": analysis.questions} if analysis.questions else {}),
        "loops": loops(spec),
        "conversations": counts and counts.conversations,
        "graph": to_dict(spec, counts),
    }


def graph_table(spec: ProcedureSpec, analysis: Analysis, counts: TraversalCounts | None) -> None:
    """Prints the summary, endings, loops, and one row per edge."""
    out = console()
    ends, bounds = paths_per_terminal(spec), {node.id: node.max_visits for node in spec.nodes}
    out.print(summary(analysis))
    elsewhere, counts = reached_only_by_leaving(spec), with_box(spec, counts)
    for node in spec.nodes:
        if not node.next:
            reached = ": by anywhere edges alone" if node.id in elsewhere else f": {counted(ends[node.id], 'path')}" if ends else ""
            out.print(f"  ends in {node.outcome} at {node.id}{reached}")
    for loop in loops(spec):
        out.print("  loop of " + ", ".join(f"{node} (at most {bounds[node]}×)" for node in loop))
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    for title in ("FROM", "SPEAKER", "TO", "WHEN"):
        table.add_column(title, overflow="fold")
    if counts:
        table.add_column("VISITS", justify="right")
    for node in drawn_nodes(spec):
        speaker = SPEAKERS[node.role]
        for index, edge in enumerate(node.next):
            taken = counts.edges.get((node.id, edge.to), 0) if counts else None
            count = [Text(f"{taken:,}", style="" if taken else "red")] if taken is not None else []
            first = (node.id, speaker) if index == 0 else ("", "")
            table.add_row(*first, edge.to, Text(clean(condition_label(node, edge))), *count)
    out.print(table)


def picture(kind: str, source: LoadedProcedure, counts: TraversalCounts | None, *, unfold: bool = False) -> str:
    """The procedure as Mermaid, SVG or HTML. A call is one box; with ``unfold``, or counts of nodes, all nodes of what it calls."""
    spec = source.spec if unfold or counts else source.written
    if kind == "mermaid":
        return mermaid(spec, counts)
    if kind == "svg":
        return ET.tostring(draw_svg(spec, source.name, counts), encoding="unicode") + "\n"
    return page(spec, source.name, summary(source.analysis), source.analysis, counts)


def first_paths(spec: ProcedureSpec, outcome: str | None, limit: int) -> tuple[list[Path], bool]:
    """The first ``limit`` paths with this outcome, and whether there are more."""
    ends = {node.id for node in spec.nodes if not node.next and outcome in (None, node.outcome)}
    paths = list(islice((path for path in Graph(spec).paths() if path[-1] in ends), limit + 1))
    return paths[:limit], len(paths) > limit


def path_data(spec: ProcedureSpec, path: Path) -> dict[str, Any]:
    """A path as JSON data."""
    graph = Graph(spec)
    turns = sum(graph.nodes[node].role != "tool" for node in path)
    return {"turns": turns, "outcome": graph.nodes[path[-1]].outcome, "nodes": path}


def path_lines(spec: ProcedureSpec, paths: Iterable[Path]) -> Iterable[str]:
    """One line per path."""
    outcome = {node.id: node.outcome for node in spec.nodes}
    return (f"{len(path):3d} turns  {outcome[path[-1]]:11s}  {' → '.join(path)}" for path in paths)


def diff_data(report: DiffReport) -> dict[str, Any]:
    """A difference as JSON data."""
    return asdict(report) | {"rewrite": asdict(report.rewrite) | {"share": round(report.rewrite.share, 4)}}


def diff_lines(report: DiffReport) -> Iterable[str]:
    """A difference as text."""
    if not report.new_run:
        yield "both versions mean the same: no new run"
        return
    for kind, changes in (("node", report.nodes), ("edge", report.edges), ("variable", report.variables)):
        yield from _changes(kind, changes)
    yield from (f"~ {name}" for name in report.settings)
    yield from _paths(report)
    rewrite = report.rewrite
    sample = f"in {rewrite.conversations:,} conversations sampled by edge weight"
    yield f"turns to rewrite: {rewrite.share:.1%} of {rewrite.turns:,}, {sample}"
    yield "compiling this starts a new run"


def _changes(kind: str, changes: Changes) -> Iterable[str]:
    yield from (f"+ {kind} {name}" for name in changes.added)
    yield from (f"- {kind} {name}" for name in changes.removed)
    yield from (f"~ {kind} {name}: {', '.join(fields)}" for name, fields in changes.changed.items())


def _paths(report: DiffReport) -> Iterable[str]:
    if report.gained is None or report.lost is None:
        yield "paths: too many to compare one by one"
        return
    yield f"paths: {len(report.gained):,} gained, {len(report.lost):,} lost"
    for sign, paths in (("+", report.gained), ("-", report.lost)):
        yield from (f"  {sign} {' → '.join(path)}" for path in paths[:_SHOWN_PATHS])
        if len(paths) > _SHOWN_PATHS:
            yield f"  {sign} … and {len(paths) - _SHOWN_PATHS:,} more"


def console() -> Console:
    """The console for tables; wide when the output is not a terminal."""
    terminal = Console(highlight=False, markup=False)
    return terminal if terminal.is_terminal else Console(highlight=False, markup=False, width=_PIPED_WIDTH)
