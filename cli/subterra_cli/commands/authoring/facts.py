"""``subterra facts``."""

from typing import Annotated

import typer

from subterra_cli.commands.options import (
    ClusterOptions,
    Context,
    Kubeconfig,
    Namespace,
    OutputFormat,
    Procedure,
    exit_on_error,
    load_procedure,
)

Output = Annotated[OutputFormat, typer.Option("--output", "-o", help="Text for people, or the JSON Schema of the facts.")]


def facts(
    procedure: Procedure,
    output: Output = OutputFormat.TEXT,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """List the facts that a client sends, and which node reads each.

    With -o json the integration contract: a JSON Schema with types, allowed values and the first node that reads each fact.

    Example: subterra facts examples/insurance/procedure.yaml
    """
    with exit_on_error():
        from subterra_cli.output import facts_table
        from subterra_cli.output.render import as_json, console
        from subterra_core.procedure.context_contract import context_facts, context_schema

        loaded = load_procedure(procedure, ClusterOptions(namespace, kubeconfig, context))
        if output is OutputFormat.JSON:
            typer.echo(as_json(context_schema(loaded.spec, loaded.name)))
            return
        found = context_facts(loaded.spec)
        if found:
            console().print(facts_table.table(found))
        for line in facts_table.lines(found):
            typer.echo(line)
