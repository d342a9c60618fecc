"""``subterra chat``."""

from typing import Annotated

import typer

from subterra_cli.commands.options import Agent, ClusterOptions, Context, Kubeconfig, Namespace, exit_on_error


def chat(
    agent: Agent,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    port: Annotated[int, typer.Option(help="Port of the agent's Service.")] = 8000,
) -> None:
    """Talk to a served agent; an empty line ends the conversation.

    Example: subterra chat travel -n demo
    """
    from subterra_cli.chat_session import ChatSession
    from subterra_cli.cluster import port_forward

    target = ClusterOptions(namespace, kubeconfig, context).target()
    with exit_on_error(1), port_forward(target, agent, port) as url:
        session = ChatSession(url, agent)
        typer.echo(f"agent: {session.greet()}")
        while line := typer.prompt("you", default="", show_default=False):
            typer.echo(f"agent: {session.say(line)}")
