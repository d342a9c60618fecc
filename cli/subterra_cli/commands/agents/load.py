"""``subterra load``."""

import os
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from subterra_cli.commands.options import (
    Agent,
    ClusterOptions,
    Context,
    KeyFile,
    Kubeconfig,
    Namespace,
    Output,
    OutputFormat,
    exit_on_error,
    load_procedure,
)

if TYPE_CHECKING:
    from subterra_api.v1alpha1.procedure import ProcedureSpec
    from subterra_cli.chat.agent_key import ApiKey
    from subterra_cli.chat.load.load_run import LoadRun
    from subterra_cli.chat.served_agent import ServedAgent

RATE = "Conversations that begin per second, on average: customers come by chance, however many talk already."
CLIENTS = "Instead of a rate: this many customers talk at a time, each over connections of its own."
FOR = "For how long customers come: a number and s, m or h. Conversations in progress are finished."
URL = "Address of the agent where this machine reaches it; default: through kubectl port-forward, which is one pod's."
PROCEDURE = "The procedure's file, where the cluster has none for this agent (spec.model)."
STREAM = "Read replies token by token, which measures the time to the first one."


def load(
    agent: Agent,
    rate: Annotated[float | None, typer.Option(min=0.001, help=RATE)] = None,
    clients: Annotated[int | None, typer.Option(min=1, max=1000, help=CLIENTS)] = None,
    time: Annotated[str, typer.Option("--for", metavar="TIME", help=FOR)] = "60s",
    stream: Annotated[bool, typer.Option(help=STREAM)] = True,
    seed: Annotated[int, typer.Option(min=0, help="Seed of customers and arrivals.")] = 1,
    url: Annotated[str | None, typer.Option(help=URL)] = None,
    procedure: Annotated[Path | None, typer.Option(metavar="FILE", help=PROCEDURE)] = None,
    api_key_file: KeyFile = None,
    output: Output = OutputFormat.TEXT,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Load-test a served agent with scripted customers.

    Measures latency, tokens, failures and cost.

    Example: subterra load travel -n demo --rate 0.5 --for 5m

    From a pod of the cluster: subterra load travel -n demo --clients 24 --for 60s --url http://travel.demo:8000
    """
    if (rate is None) == (clients is None):
        raise typer.BadParameter("give either --rate or --clients", param_hint="--rate")
    cluster = ClusterOptions(namespace, kubeconfig, context)
    with exit_on_error(1):
        served, key = (None, _given_key(api_key_file)) if url and procedure else _served(agent, cluster, api_key_file)
    with exit_on_error(2):
        from subterra_cli.agents.dashboards.draw import seconds_of

        spec, seconds = _spec(served, procedure, cluster), seconds_of(time, "--for")
        run = _run(agent, spec, seed, stream, key.value if key else None, int((rate or 1) * seconds) + 1)
    with exit_on_error(1), _reached(agent, served, cluster, url) as reached:
        run.url = reached
        failed = _measure(run, rate, clients, seconds, seed, _usd_per_hour(served), output)
    raise typer.Exit(1 if failed else 0)


def _given_key(file: Path | None) -> "ApiKey | None":
    from subterra_cli.chat.agent_key import given_key

    return given_key(file, os.environ)


def _served(agent: str, cluster: ClusterOptions, key_file: Path | None) -> "tuple[ServedAgent, ApiKey | None]":
    """The agent, and its API key as `subterra chat` finds it."""
    from subterra_cli.chat.agent_key import agent_key
    from subterra_cli.chat.served_agent import find_served_agent
    from subterra_cli.cluster import ResourceReader

    reader = ResourceReader(cluster.target())
    served = find_served_agent(reader, agent)
    return served, agent_key(key_file, os.environ, served.api_key_secret, reader.secret_value)


def _spec(served: "ServedAgent | None", procedure: Path | None, cluster: ClusterOptions) -> "ProcedureSpec":
    """The procedure whose customers talk. Raises CommandError."""
    from subterra_cli.errors import CommandError

    if procedure is not None:
        return load_procedure(str(procedure), cluster).spec
    if served is None or served.spec is None:
        raise CommandError(f"{served.why_unchecked if served else 'no procedure'}; give its file with --procedure")
    return served.spec


def _run(agent: str, spec: "ProcedureSpec", seed: int, stream: bool, key: str | None, conversations: int) -> "LoadRun":
    """The load test, with its customers. Raises CommandError."""
    from subterra_cli.chat.load.load_run import LoadRun, customers
    from subterra_cli.errors import CommandError
    from subterra_jobs.errors import InvalidInputError

    try:
        return LoadRun("", agent, spec, customers(spec, conversations, seed), stream, api_key=key)
    except InvalidInputError as error:
        raise CommandError(f"there are no customers for {agent}: {error}") from None


def _reached(agent: str, served: "ServedAgent | None", cluster: ClusterOptions, url: str | None) -> AbstractContextManager[str]:
    from subterra_cli.chat.served_agent import DEFAULT_PORT
    from subterra_cli.cluster import port_forward

    if url is not None:
        return nullcontext(url.rstrip("/"))
    return port_forward(cluster.target(), agent, served.port if served else DEFAULT_PORT)


def _usd_per_hour(served: "ServedAgent | None") -> Decimal | None:
    """The price of all replicas, as far as the status has it."""
    status = served.agent["status"] if served else {}
    price = status.get("price", {}).get("usdPerHour")
    return None if price is None else Decimal(str(price)) * int(status.get("replicas") or 1)


def _measure(
    run: "LoadRun", rate: float | None, clients: int | None, seconds: int, seed: int, usd: Decimal | None, output: OutputFormat
) -> int:
    """Runs the load test and prints its figures; returns how many requests failed."""
    import asyncio
    import random
    from time import monotonic

    from subterra_cli.chat.load.load_figures import load_figures, load_table
    from subterra_cli.chat.load.load_run import arrivals
    from subterra_cli.output.render import as_json

    end = monotonic() + seconds
    talking = run.open_loop(arrivals(rate, seconds, random.Random(seed))) if rate else None
    result = asyncio.run(talking or run.closed_loop(clients or 1, lambda: monotonic() < end))
    figures = load_figures(result, usd)
    typer.echo(as_json(figures) if output is OutputFormat.JSON else "\n".join(load_table(figures)))
    return int(figures["requestsFailed"])
