"""``subterra watch``."""

from typing import Annotated

import typer

from subterra_cli.commands.options import Agent, ClusterOptions, Context, Kubeconfig, Namespace, exit_on_error


def watch(
    agent: Agent,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    timeout: Annotated[float, typer.Option(help="Maximum number of seconds to wait.")] = 86400,
) -> None:
    """Follow an agent's compilation until it is served.

    Example: subterra watch travel -n demo
    """
    from rich.console import Console

    from subterra_cli.agents.watch_compile import watch as follow
    from subterra_cli.cluster import ResourceReader

    with exit_on_error(1):
        follow(ResourceReader(ClusterOptions(namespace, kubeconfig, context).target()), agent, Console(), timeout=timeout)
