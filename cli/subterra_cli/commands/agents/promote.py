"""``subterra approve`` and ``subterra rollback``: both set ``spec.promotion.pin``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from subterra_cli.commands.options import Agent, ClusterOptions, Context, Kubeconfig, Namespace, exit_on_error

if TYPE_CHECKING:
    from subterra_cli.agents.traffic_pin import Pin
    from subterra_cli.cluster import ResourceReader

DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; print what to write into the agent's file.")]
Rejected = Annotated[bool, typer.Option("--although-it-did-not-pass", help="Serve a candidate that did not pass the gate, too.")]
Version = Annotated[str | None, typer.Option("--to", metavar="VERSION", help="Version to go back to; default: the one before.")]


def approve(
    agent: Agent,
    although_it_did_not_pass: Rejected = False,
    dry_run: DryRun = False,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Move traffic to the candidate, by pinning its model.

    Example: subterra approve travel -n demo
    """
    from subterra_cli.agents.traffic_pin import approved

    with exit_on_error():
        reader, found = _found(agent, ClusterOptions(namespace, kubeconfig, context))
        _pin(reader, found, approved(found, rejected_too=although_it_did_not_pass), dry_run)


def rollback(
    agent: Agent,
    to: Version = None,
    dry_run: DryRun = False,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Move traffic back to an earlier version, by pinning its model.

    Example: subterra rollback travel -n demo
    """
    from subterra_cli.agents.traffic_pin import earlier

    with exit_on_error():
        reader, found = _found(agent, ClusterOptions(namespace, kubeconfig, context))
        _pin(reader, found, earlier(found, to), dry_run)


def _found(agent: str, options: ClusterOptions) -> tuple["ResourceReader", dict[str, Any]]:
    from subterra_cli.agents.read_agent import read_agent
    from subterra_cli.cluster import ResourceReader

    reader = ResourceReader(options.target())
    return reader, read_agent(reader, agent)


def _pin(reader: "ResourceReader", agent: dict[str, Any], pin: "Pin", dry_run: bool) -> None:
    from subterra_cli.agents.traffic_pin import agent_name, kept_by_gitops

    if dry_run:
        typer.echo(pin.manifest)
        return
    name = agent_name(agent)
    reader.patch("compiledagents", name, pin.patch)
    typer.echo(f"CompiledAgent {name}: traffic moves to {pin.description}. Compiling goes on; remove the pin to follow it again.")
    if kept_by_gitops(agent):
        typer.echo(f"A GitOps tool keeps this agent as it is in Git, and undoes this; commit:\n{pin.manifest}", err=True)
