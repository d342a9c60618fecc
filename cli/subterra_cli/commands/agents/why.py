"""``subterra why``."""

import typer

from subterra_cli.commands.options import Agent, ClusterOptions, Context, Kubeconfig, Namespace, exit_on_error


def why(agent: Agent, namespace: Namespace = "default", kubeconfig: Kubeconfig = None, context: Context = None) -> None:
    """Explain why an agent does not serve its procedure.

    Names one cause and its fix, read from the conditions of agent, run and procedure, from pods and from Events. Exits with 1
    when something has to be done.

    Example: subterra why travel -n demo
    """
    with exit_on_error():
        from subterra_cli.agents.diagnosis import diagnose
        from subterra_cli.agents.read_agent import read_objects
        from subterra_cli.cluster import ResourceReader

        reader = ResourceReader(ClusterOptions(namespace, kubeconfig, context).target())
        found = diagnose(read_objects(reader, agent), reader.now())
    for line in found.lines():
        typer.echo(line)
    raise typer.Exit(0 if found.healthy else 1)
