"""``subterra status``."""

from typing import Annotated

import typer

from subterra_cli.commands.options import ClusterOptions, Context, Kubeconfig, Namespace, Output, OutputFormat, exit_on_error


def status(
    agent: Annotated[str | None, typer.Argument(help="Name of a CompiledAgent; default: all of the namespace.")] = None,
    output: Output = OutputFormat.TEXT,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show what agents serve and do, and cost per conversation.

    Example: subterra status -n demo
    """
    with exit_on_error():
        from subterra_cli.agents.read_agent import read_agent
        from subterra_cli.cluster import ResourceReader
        from subterra_cli.output.agent_table import agent_data, agent_table
        from subterra_cli.output.render import as_json, console

        reader = ResourceReader(ClusterOptions(namespace, kubeconfig, context).target())
        agents = [read_agent(reader, agent)] if agent else reader.all_of("compiledagents")
        if output is OutputFormat.JSON:
            typer.echo(as_json([agent_data(each) for each in agents]))
        elif agents:
            console().print(agent_table(agents))
        else:
            typer.echo(f"no CompiledAgents in namespace {namespace}; write one with: subterra init", err=True)
