"""``subterra diff``."""

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


def diff(
    old: Procedure,
    new: Procedure,
    output: Output = OutputFormat.TEXT,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Compare two versions of a procedure.

    Prints changed nodes, edges and paths, and the share of turns to rewrite. Exits with 0 when both mean the same, so that nothing
    would be compiled, and with 1 when they differ.

    Example: subterra diff travel examples/travel/procedure.yaml -n demo
    """
    from subterra_cli.output import render
    from subterra_cli.procedure_diff import compare

    cluster = ClusterOptions(namespace, kubeconfig, context)
    with exit_on_error():
        report = compare(load_procedure(old, cluster).spec, load_procedure(new, cluster).spec)
        if output is OutputFormat.JSON:
            typer.echo(render.as_json(render.diff_data(report)))
        else:
            for line in render.diff_lines(report):
                typer.echo(line)
    raise typer.Exit(1 if report.new_run else 0)
