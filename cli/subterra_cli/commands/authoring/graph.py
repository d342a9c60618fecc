"""``subterra graph``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from subterra_cli.commands.options import ClusterOptions, Context, Kubeconfig, Namespace, Procedure, exit_on_error, load_procedure


class GraphFormat(StrEnum):
    """How `graph` shows a procedure."""

    TABLE = "table"
    JSON = "json"
    MERMAID = "mermaid"
    SVG = "svg"
    HTML = "html"


UNFOLD = "In pictures, draw the nodes for which a call or a node of role collect stands."
DATASET = "A dataset's folder, coverage.json or labels.jsonl: shows how often each edge is taken."


def graph(
    procedure: Procedure,
    output: Annotated[GraphFormat, typer.Option("--output", "-o", help="Output format.")] = GraphFormat.TABLE,
    dataset: Annotated[Path | None, typer.Option(help=DATASET)] = None,
    unfold: Annotated[bool, typer.Option("--unfold", help=UNFOLD)] = False,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show a procedure's nodes, edges and endings.

    As a table, as JSON, or as a picture for a web page or a README.

    Example: subterra graph examples/travel/procedure.yaml -o html > travel.html
    """
    from subterra_cli.dataset.edge_counts import read_traversals
    from subterra_cli.output import render

    with exit_on_error():
        loaded = load_procedure(procedure, ClusterOptions(namespace, kubeconfig, context))
        counts = read_traversals(dataset, loaded.spec) if dataset else None
        if output is GraphFormat.TABLE:
            render.graph_table(loaded.spec, loaded.analysis, counts)
        elif output is GraphFormat.JSON:
            typer.echo(render.as_json(render.graph_data(loaded.name, loaded.spec, loaded.analysis, counts)))
        else:
            typer.echo(render.picture(output.value, loaded, counts, unfold=unfold), nl=False)
