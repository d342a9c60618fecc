"""``subterra export`` and ``subterra provenance``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from subterra_cli.commands.options import Agent, ClusterOptions, Context, Kubeconfig, Namespace, exit_on_error

if TYPE_CHECKING:
    from subterra_cli.agents.registry.export_request import ExportWanted
    from subterra_cli.cluster import ResourceReader

POLL_SECONDS = 2.0
TO = "Where the model goes, such as oci://registry.example/agents/travel; without a tag, the run's name is the tag."
REGISTRY_SECRET = "Secret with the registry's password (.dockerconfigjson), its authority (ca.crt), or both."  # noqa: S105 - help
SIGNING_SECRET = "Secret with the key for the statement, as cosign generate-key-pair k8s://NAMESPACE/NAME makes it."  # noqa: S105 - help
DRY_RUN = "Change nothing; print what to write into the agent's file."
WAIT = "Seconds to wait for the push; 0 does not wait."


def export(
    agent: Agent,
    to: Annotated[str, typer.Option("--to", metavar="OCI", help=TO)],
    registry_secret: Annotated[str | None, typer.Option(metavar="NAME", help=REGISTRY_SECRET)] = None,
    signing_secret: Annotated[str | None, typer.Option(metavar="NAME", help=SIGNING_SECRET)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=DRY_RUN)] = False,
    wait: Annotated[float, typer.Option(min=0, help=WAIT)] = 900,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Push what an agent serves to an OCI registry.

    Later models are pushed too. Each comes with a statement of how it was made.

    Sets spec.promotion.export; a Job in the cluster pushes. Prints what production needs.

    Example: subterra export travel --to oci://registry.example/agents/travel -n staging
    """
    with exit_on_error():
        from subterra_cli.agents.read_agent import read_agent
        from subterra_cli.agents.registry.export_request import ExportWanted
        from subterra_cli.agents.traffic_pin import kept_by_gitops
        from subterra_cli.cluster import ResourceReader

        wanted = ExportWanted.of(to, registry_secret, signing_secret)
        if dry_run:
            typer.echo(wanted.manifest)
            return
        reader = ResourceReader(ClusterOptions(namespace, kubeconfig, context).target())
        found = read_agent(reader, agent)
        reader.patch("compiledagents", agent, wanted.patch)
        if kept_by_gitops(found):
            typer.echo(f"A GitOps tool keeps this agent as it is in Git, and undoes this; commit:\n{wanted.manifest}", err=True)
    with exit_on_error(1):
        _follow(reader, agent, wanted, wait)


def _follow(reader: "ResourceReader", name: str, wanted: "ExportWanted", wait: float) -> None:
    """Waits until the model is in the registry. Raises CommandError."""
    import time

    from subterra_cli.agents.read_agent import read_agent
    from subterra_cli.agents.registry.export_request import pushed
    from subterra_cli.errors import CommandError

    end = time.monotonic() + wait
    while (uri := pushed(agent := read_agent(reader, name), wanted)) is None:
        if time.monotonic() >= end:
            raise CommandError(f"CompiledAgent {name}: the model is still on its way; see its condition Exported")
        time.sleep(POLL_SECONDS)
    typer.echo(f"model:\n  uri: {uri}\n  digest: {agent['status']['exported']['modelDigest']}")


def provenance(agent: Agent, namespace: Namespace = "default", kubeconfig: Kubeconfig = None, context: Context = None) -> None:
    """Print how the model that an agent serves was made.

    Lists procedure, run, dataset, weights, verdict, artifact and serving version. Exits with 1 if a link is missing.

    Example: subterra provenance travel -n production
    """
    with exit_on_error(1):
        from subterra_cli.agents.read_agent import read_agent
        from subterra_cli.agents.registry.provenance_chain import PLACE, compiled_chain, pulled_chain
        from subterra_cli.agents.report_file import fetch
        from subterra_cli.cluster import ResourceReader
        from subterra_operator.labels import AGENT_LABEL, VERSION_LABEL

        reader = ResourceReader(ClusterOptions(namespace, kubeconfig, context).target())
        found: dict[str, Any] = read_agent(reader, agent)
        serving = found.get("status", {}).get("serving") or {}
        if found["spec"].get("model"):
            pods = f"{AGENT_LABEL}={agent},{VERSION_LABEL}={serving.get('version', '')}"
            links = pulled_chain(found, lambda: fetch(reader.target, reader.pods(pods), PLACE))
        else:
            links = compiled_chain(found, reader.get("compileruns", serving["run"]) if serving.get("run") else None)
        for link in links:
            typer.echo(str(link))
