"""``subterra reevaluate``."""

import typer

from subterra_cli.commands.options import Agent, ClusterOptions, Context, Kubeconfig, Namespace, exit_on_error


def reevaluate(agent: Agent, namespace: Namespace = "default", kubeconfig: Kubeconfig = None, context: Context = None) -> None:
    """Evaluate what an agent serves again, on other scenarios.

    The agent keeps serving whatever the result is.

    Sets the annotation subterra.dev/reevaluate-at. Hosted judges and simulators are paid, within the caps of spec.budget.

    Example: subterra reevaluate travel -n demo
    """
    with exit_on_error():
        from subterra_api.v1alpha1 import REEVALUATE_AT
        from subterra_api.v1alpha1.conditions import timestamp
        from subterra_cli.agents.read_agent import read_agent
        from subterra_cli.cluster import ResourceReader
        from subterra_cli.errors import CommandError

        reader = ResourceReader(ClusterOptions(namespace, kubeconfig, context).target())
        serving = read_agent(reader, agent).get("status", {}).get("serving")
        if not serving:
            raise CommandError(f"CompiledAgent {agent} serves no version; follow its compilation with: subterra watch {agent}")
        reader.patch("compiledagents", agent, {"metadata": {"annotations": {REEVALUATE_AT: timestamp(reader.now())}}})
        typer.echo(
            f"CompiledAgent {agent}: version {serving['version']} is evaluated again and goes on serving. "
            f"Follow it with: subterra watch {agent} -n {namespace}"
        )
