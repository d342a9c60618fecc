"""``python -m subterra_demo``: the whole pipeline on one procedure with live progress, then conversations with the agent."""

import argparse
import sys
import time
from typing import Any

from rich.console import Console

from subterra_cli.agents.watch_compile import duration, watch
from subterra_cli.chat.chat_session import ChatSession
from subterra_cli.cluster import ClusterAccessError, ClusterTarget, ResourceReader, port_forward
from subterra_demo import customers
from subterra_demo.replay import replay
from subterra_demo.steps import (
    AGENT,
    NAMESPACE,
    RELEASE,
    ROOT,
    SYSTEM_NAMESPACE,
    DemoCluster,
    StepError,
    apply_example,
    cluster_up,
    install_chart,
    read_artifact,
    run,
    step,
)
from subterra_demo.unheard import RUN, heard_in_training

PROCEDURE = ROOT / "examples/travel/procedure.yaml"
REPORT = ROOT / "out/travel-report.html"
WATCH_SECONDS = 3 * 3600
"""Enough for two cores that train and serve in float32, which takes more than an hour."""
PRICE_SECONDS = 90
MAX_DEVIATIONS = 1
"""Conversations that may leave the procedure: the customers speak freely, and each processor trains a slightly different model."""


def main() -> int:
    """0 if the agent is served and all conversations but one at most follow the procedure to its terminal."""
    arguments = _arguments()
    cluster, console, started = DemoCluster(arguments.context, arguments.registry), Console(soft_wrap=True), time.monotonic()
    try:
        conformant = _demo(cluster, console)
    except (StepError, ClusterAccessError) as error:
        console.print(f"[red]{error}[/red]", highlight=False, soft_wrap=True)
        return 1
    console.print(f"[dim]make demo took {duration(int(time.monotonic() - started))}[/dim]")
    return 0 if conformant else 1


def _demo(cluster: DemoCluster, console: Console) -> bool:
    with step(console, "Cluster and images"):
        cluster_up(cluster)
    with step(console, "Operator"):
        install_chart(cluster)
    with step(console, "kubectl apply -f examples/travel/"):
        if change := apply_example(cluster):
            console.print(change, style="yellow")
    target = ClusterTarget(NAMESPACE, cluster.kubeconfig, cluster.context)
    reader = ResourceReader(target)
    with step(console, "From procedure to agent"):
        watch(reader, AGENT, console, timeout=WATCH_SECONDS)
    with step(console, "Conversations with the served agent"), port_forward(target, AGENT, 8000) as url:
        _require_unheard(cluster, reader, console)
        conformant = _converse(console, url)
    with step(console, "Status in kubectl"):
        _show(cluster, reader, console)
    _farewell(cluster, console, conformant)
    return conformant


def _require_unheard(cluster: DemoCluster, reader: ResourceReader, console: Console) -> None:
    """Reads what the agent was trained on. Raises StepError when it has heard one of the customers below before."""
    status = (reader.get("compiledagents", AGENT) or {})["status"]
    compiled = reader.get("compileruns", status["currentRun"]) or {}
    path = compiled["status"]["artifacts"]["datasetPath"]
    rows = read_artifact(cluster, status["serving"]["version"], f"{path}/train.jsonl").splitlines()
    if heard := heard_in_training(customers.load_customers(), rows):
        raise StepError(f"demo/customers.yaml: the training data has words of: {'; '.join(heard)}; say it in other words")
    console.print(
        f"No sentence of the customers below, and no {RUN} words of one in a row, is in the {len(rows)} conversations that the "
        "agent was trained on; nor are their cities, dates and budgets.\n",
        style="dim",
    )


def _converse(console: Console, url: str) -> bool:
    procedure = customers.load_procedure(PROCEDURE)
    results = []
    for customer in customers.load_customers():
        session = ChatSession(url, AGENT)
        verdict = replay(procedure, customer, customers.converse(customer, session))
        console.print(f"[bold]{customer.name}[/bold]")
        for message in session.messages:
            speaker = "[cyan]agent   [/cyan]" if message["role"] == "assistant" else "[green]customer[/green]"
            console.print(f"  {speaker} ", end="")
            console.print(message["content"], markup=False, highlight=False)
        console.print(f"  {'[green]✔' if verdict.conformant else '[red]✘'} {verdict.summary}\n")
        results.append(verdict.conformant)
    console.print(f"{sum(results)} of {len(results)} conversations follow the procedure to its terminal")
    return len(results) - sum(results) <= MAX_DEVIATIONS


def _show(cluster: DemoCluster, reader: ResourceReader, console: Console) -> None:
    status = _status_with_price(reader)
    run(cluster.kubectl("get", "procedures,compileruns,compiledagents", "--namespace", NAMESPACE))
    if usd := status.get("price", {}).get("usdPerConversation"):
        console.print(
            f"\nprice per conversation: ${usd} (busy time of the serving pod; see `kubectl get compiledagent travel -o yaml`)"
        )
    if banner := status.get("banner"):
        console.print(f"\n[yellow]{banner}[/yellow]")
    compiled = reader.get("compileruns", status.get("currentRun", "")) or {}
    if path := compiled.get("status", {}).get("artifacts", {}).get("reportPath"):
        REPORT.parent.mkdir(exist_ok=True)
        REPORT.write_text(read_artifact(cluster, status["serving"]["version"], f"{path}/report.html"), encoding="utf-8")
        console.print(f"report: {REPORT.relative_to(ROOT)}")


def _status_with_price(reader: ResourceReader) -> dict[str, Any]:
    """The agent's status, once the conversations above have given it a price. Raises ClusterAccessError."""
    for _ in range(PRICE_SECONDS):
        status: dict[str, Any] = (reader.get("compiledagents", AGENT) or {}).get("status", {})
        if status.get("price", {}).get("usdPerConversation"):
            break
        time.sleep(1)
    else:
        raise ClusterAccessError(f"no price after {PRICE_SECONDS} s; see the log of container exporter in the serving pod")
    return status


def _farewell(cluster: DemoCluster, console: Console, conformant: bool) -> None:
    tear_down = (
        "make cluster-down"
        if cluster.embedded
        else f"helm uninstall -n {SYSTEM_NAMESPACE} {RELEASE}; kubectl delete ns {NAMESPACE}"
    )
    prefix = 'eval "$(make -s cluster-env)"    # KUBECONFIG and PATH\n  ' if cluster.embedded else ""
    console.rule("[bold]Next steps" if conformant else "[bold red]More than one conversation left the procedure", align="left")
    console.print(
        f"The agent keeps running. Talk to it:\n  {prefix}.venv/bin/subterra chat {AGENT} -n {NAMESPACE}\n"
        f"or use its OpenAI-compatible API:\n  kubectl port-forward -n {NAMESPACE} service/{AGENT} 8000\n"
        f"Edit examples/travel/procedure.yaml, apply it again, and watch:\n  .venv/bin/subterra watch {AGENT} -n {NAMESPACE}\n"
        f"Tear down:\n  {tear_down}",
        highlight=False,
        markup=False,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--context", help="use this kubeconfig context instead of the embedded cluster")
    parser.add_argument("--registry", help="with --context: registry to push the images to")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
