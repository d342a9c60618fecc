"""``subterra chat``."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subterra_cli.commands.options import Agent, ClusterOptions, Context, KeyFile, Kubeconfig, Namespace, exit_on_error

if TYPE_CHECKING:
    from subterra_cli.chat.served_agent import ServedAgent
    from subterra_cli.cluster import ClusterTarget

Port = Annotated[int | None, typer.Option(help="Port of the agent's Service; default: the agent's spec.serving.port.")]
Facts = Annotated[
    list[str] | None,
    typer.Option(
        "--fact",
        metavar="NAME=VALUE",
        help="A fact about the customer; repeat for each. Facts are the procedure's variables with visibility: context.",
    ),
]
Tools = Annotated[
    str | None,
    typer.Option(
        "--tools",
        metavar="FILE.py|URL",
        help="Who runs the tools that the agent calls: functions of a Python file by their names, or an endpoint that takes POST "
        "with name and arguments. Without it, each call is shown and you write its result.",
    ),
]


def chat(
    agent: Agent,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    port: Port = None,
    fact: Facts = None,
    tools: Tools = None,
    api_key_file: KeyFile = None,
) -> None:
    """Talk to a served agent.

    An empty line, exit, Ctrl-D or Ctrl-C ends the conversation.

    Example: subterra chat travel -n demo

    With a fact about the customer: subterra chat zoom --fact plan=Pro

    With tools: subterra chat orders --tools examples/orders/tools.py

    Without a terminal, each line of standard input is a turn: echo Hi | subterra chat travel
    """
    from subterra_cli.chat.terminal import FAREWELL, is_interactive, note

    facts, interactive = _parsed(fact or []), is_interactive()
    try:
        _talk(agent, ClusterOptions(namespace, kubeconfig, context).target(), port, facts, tools, interactive, api_key_file)
    except KeyboardInterrupt:
        typer.echo(err=True)
    if interactive:
        note(FAREWELL)


def _parsed(options: list[str]) -> dict[str, str]:
    from subterra_cli.chat.context_facts import parse_facts

    try:
        return parse_facts(options)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--fact") from None


def _talk(
    agent: str,
    target: "ClusterTarget",
    port: int | None,
    facts: dict[str, str],
    tools: str | None,
    interactive: bool,
    key_file: Path | None,
) -> None:
    from subterra_cli.chat.agent_key import agent_key
    from subterra_cli.chat.chat_session import ChatSession, ServerFailedError
    from subterra_cli.chat.reached_state import reached_state
    from subterra_cli.chat.served_agent import find_served_agent
    from subterra_cli.chat.terminal import HOW_TO_END, converse, customer_lines, note
    from subterra_cli.chat.tested_for import banner_lines
    from subterra_cli.cluster import ClusterAccessError, ResourceReader, port_forward

    with exit_on_error(1):
        reader = ResourceReader(target)
        served = find_served_agent(reader, agent)
        settings: dict[str, Any] = {"api_key": agent_key(key_file, os.environ, served.api_key_secret, reader.secret_value)}
    command = ["subterra", "chat", agent, *target.flags(), *(["--port", str(port)] if port else [])]
    message = _system_message(served, facts, command)
    with exit_on_error(2):
        settings |= _tool_settings(served, tools, interactive)
    with exit_on_error(1), port_forward(target, agent, port or served.port) as url:
        note(*banner_lines(served))
        if interactive:
            note(HOW_TO_END if served.speaks_first else f"You speak first. {HOW_TO_END}")
        session = ChatSession(url, agent, context=message, **settings)
        try:
            converse(session, customer_lines(interactive), greets=served.speaks_first)
        except ServerFailedError as error:
            raise ClusterAccessError(_lost_conversation(error, agent, target)) from None
        if served.tells_state:
            note(reached_state(session))


def _lost_conversation(error: Exception, agent: str, target: "ClusterTarget") -> str:
    pods = f"{shlex.join(target.flags())} -l subterra.dev/agent={agent}"
    return (
        f"{error}.\nSee its pods with: kubectl get pods {pods}\nand its log with: kubectl logs {pods} -c vllm\n"
        "Then start the chat again; this conversation is lost."
    )


def _tool_settings(served: "ServedAgent", source: str | None, interactive: bool) -> dict[str, Any]:
    """The settings of a session with an agent that calls tools; none for others. Raises CommandError."""
    from subterra_cli.chat.terminal import asked, note
    from subterra_cli.chat.tool_runners import tool_runner
    from subterra_cli.errors import CommandError
    from subterra_core.procedure.tools import function_schemas

    if served.spec is None or not served.spec.tools:
        if source is not None:
            why = "its procedure has no tools" if served.spec else f"{served.why_unchecked}, so its tools are not known"
            raise CommandError(f"--tools {source}: {why}; leave the option out")
        return {}
    runner = tool_runner(served.spec, source, asked if interactive else None)
    return {"tools": function_schemas(served.spec), "run_tool": runner, "on_call": lambda text: note(f"[{text}]")}


def _system_message(served: "ServedAgent", facts: dict[str, str], command: list[str]) -> str:
    """The system message for these facts; exits with 2 when they are not those of the procedure."""
    from subterra_cli.chat.context_facts import context_message, unchecked_message, untrained_values
    from subterra_cli.chat.terminal import note

    spec = served.spec
    if spec is None:
        note(f"Note: {served.why_unchecked}, so which facts it needs is not known; those of --fact are passed on unchecked.")
        return unchecked_message(facts)
    with exit_on_error(2):
        message = context_message(spec, facts, command)
    note(*untrained_values(spec, facts))
    return message
