"""``subterra paths``."""

from enum import StrEnum
from typing import Annotated

import typer

from subterra_cli.commands.options import (
    ClusterOptions,
    Context,
    Kubeconfig,
    Namespace,
    Output,
    OutputFormat,
    Procedure,
    exit_on_error,
    load_procedure,
)


class PathOutcome(StrEnum):
    """How a conversation ends."""

    SUCCESS = "success"
    ABANDONMENT = "abandonment"
    ESCALATION = "escalation"


def paths(
    procedure: Procedure,
    outcome: Annotated[PathOutcome | None, typer.Option(help="Only paths with this outcome.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number to list.")] = 1000,
    output: Output = OutputFormat.TEXT,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """List the paths that a conversation can take.

    Example: subterra paths examples/travel/procedure.yaml --outcome escalation
    """
    from subterra_cli.output import render

    with exit_on_error():
        spec = load_procedure(procedure, ClusterOptions(namespace, kubeconfig, context)).spec
        listed, more = render.first_paths(spec, outcome.value if outcome else None, limit)
        if output is OutputFormat.JSON:
            typer.echo(render.as_json([render.path_data(spec, path) for path in listed]))
        else:
            for line in render.path_lines(spec, listed):
                typer.echo(line)
        if more:
            typer.echo(f"showing the first {limit:,} paths; raise --limit to see more", err=True)
