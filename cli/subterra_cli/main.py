"""``subterra``: lint a procedure, watch an agent, talk to it. Exit codes: 0 fine, 1 the answer is no, 2 wrong use."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the agent.")]
Kubeconfig = Annotated[str | None, typer.Option(help="Kubeconfig file; default as kubectl.")]
Context = Annotated[str | None, typer.Option(help="Kubeconfig context.")]


@app.command()
def lint(file: Annotated[Path, typer.Argument(help="A procedure's YAML file.")]) -> None:
    """Say what is wrong with a procedure. Example: subterra lint examples/travel/procedure.yaml"""
    from subterra_api.lint import analyse
    from subterra_cli.lint import InvalidFileError, load, told

    try:
        spec = load(file)
    except InvalidFileError as error:
        typer.echo(f"{file}: {error}", err=True)
        raise typer.Exit(1) from None
    analysis = analyse(spec)
    for line in told(file, analysis.findings):
        typer.echo(line, err=True)
    if analysis.errors:
        raise typer.Exit(1)
    turns = f"{analysis.min_turns} to {analysis.max_turns or 'more'} turns"
    typer.echo(
        f"{analysis.nodes} nodes, {analysis.hubs} hubs, {analysis.terminals} terminals, {analysis.path_count} paths of {turns}"
    )


@app.command()
def watch(
    agent: Annotated[str, typer.Argument(help="Name of the CompiledAgent.")],
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most.")] = 86400,
) -> None:
    """Follow an agent's compilation until it is served. Example: subterra watch travel -n demo"""
    from rich.console import Console

    from subterra_cli.cluster import ClusterError, Reader, Target
    from subterra_cli.watch import watch as follow

    try:
        follow(Reader(Target(namespace, kubeconfig, context)), agent, Console(), timeout=timeout)
    except ClusterError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


@app.command()
def chat(
    agent: Annotated[str, typer.Argument(help="Name of the CompiledAgent.")],
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    port: Annotated[int, typer.Option(help="Port of the agent's Service.")] = 8000,
) -> None:
    """Talk to a served agent; an empty line ends it. Example: subterra chat travel -n demo"""
    from subterra_cli.chat import Conversation
    from subterra_cli.cluster import ClusterError, Target, forwarded

    try:
        with forwarded(Target(namespace, kubeconfig, context), agent, port) as url:
            conversation = Conversation(url, agent)
            typer.echo(f"agent: {conversation.greet()}")
            while line := typer.prompt("you", default="", show_default=False):
                typer.echo(f"agent: {conversation.say(line)}")
    except ClusterError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
