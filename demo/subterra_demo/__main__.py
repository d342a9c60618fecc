"""``python -m subterra_demo``: the whole pipeline on one procedure, watched live, then conversations with the result."""

import argparse
import sys
import time
from typing import Any

from rich.console import Console

from subterra_cli.chat import Conversation
from subterra_cli.cluster import ClusterError, Reader, Target, forwarded
from subterra_cli.watch_compile import duration, watch
from subterra_demo import travellers
from subterra_demo.replay import replay
from subterra_demo.steps import (
    AGENT,
    NAMESPACE,
    RELEASE,
    ROOT,
    SYSTEM_NAMESPACE,
    Place,
    StepError,
    apply_example,
    cluster_up,
    install_chart,
    run,
    step,
    stored,
)

PROCEDURE = ROOT / "examples/travel/procedure.yaml"
REPORT = ROOT / "out/travel-report.html"
WATCH_SECONDS = 2400
PRICE_SECONDS = 90


def main() -> int:
    """0 when the agent is served and every conversation follows the procedure to its terminal."""
    arguments = _arguments()
    place, console, started = Place(arguments.context, arguments.registry), Console(soft_wrap=True), time.monotonic()
    try:
        conformant = _demo(place, console)
    except (StepError, ClusterError) as error:
        console.print(f"[red]{error}[/red]", highlight=False, soft_wrap=True)
        return 1
    console.print(f"[dim]make demo took {duration(int(time.monotonic() - started))}[/dim]")
    return 0 if conformant else 1


def _demo(place: Place, console: Console) -> bool:
    with step(console, "Cluster and images"):
        cluster_up(place)
    with step(console, "Operator"):
        install_chart(place)
    with step(console, "kubectl apply -f examples/travel/"):
        apply_example(place)
    target = Target(NAMESPACE, place.kubeconfig, place.context)
    reader = Reader(target)
    with step(console, "From procedure to agent"):
        watch(reader, AGENT, console, timeout=WATCH_SECONDS)
    with step(console, "Conversations with the served agent"), forwarded(target, AGENT, 8000) as url:
        conformant = _converse(console, url)
    with step(console, "What kubectl says"):
        _show(place, reader, console)
    _farewell(place, console, conformant)
    return conformant


def _converse(console: Console, url: str) -> bool:
    procedure = travellers.load_procedure(PROCEDURE)
    console.print("Cities, dates and budgets below are held out: no training conversation has them.\n", style="dim")
    results = []
    for traveller in travellers.load():
        conversation = Conversation(url, AGENT)
        replies = travellers.converse(traveller, conversation)
        found = replay(procedure, traveller, replies)
        console.print(f"[bold]{traveller.name}[/bold]")
        for message in conversation.messages:
            speaker = "[cyan]agent   [/cyan]" if message["role"] == "assistant" else "[green]customer[/green]"
            console.print(f"  {speaker} ", end="")
            console.print(message["content"], markup=False, highlight=False)
        console.print(f"  {'[green]✔' if found.conformant else '[red]✘'} {found.summary}\n")
        results.append(found.conformant)
    console.print(f"{sum(results)} of {len(results)} conversations follow the procedure to its terminal")
    return all(results)


def _show(place: Place, reader: Reader, console: Console) -> None:
    status = _status_with_price(reader)
    run(place.kubectl("get", "procedures,compileruns,compiledagents", "--namespace", NAMESPACE))
    if usd := status.get("price", {}).get("usdPerConversation"):
        console.print(
            f"\nprice per conversation: ${usd} (busy time of the serving pod; see `kubectl get compiledagent travel -o yaml`)"
        )
    if banner := status.get("banner"):
        console.print(f"\n[yellow]{banner}[/yellow]")
    compiled = reader.get("compileruns", status.get("currentRun", "")) or {}
    if path := compiled.get("status", {}).get("artifacts", {}).get("reportPath"):
        REPORT.parent.mkdir(exist_ok=True)
        REPORT.write_text(stored(place, status["serving"]["version"], f"{path}/report.html"), encoding="utf-8")
        console.print(f"report: {REPORT.relative_to(ROOT)}")


def _status_with_price(reader: Reader) -> dict[str, Any]:
    """The agent's status; waits for the price, which the conversations just held make known."""
    for _ in range(PRICE_SECONDS):
        status: dict[str, Any] = (reader.get("compiledagents", AGENT) or {}).get("status", {})
        if status.get("price", {}).get("usdPerConversation"):
            break
        time.sleep(1)
    else:
        raise ClusterError(f"no price after {PRICE_SECONDS} s; see the log of container exporter in the serving pod")
    return status


def _farewell(place: Place, console: Console, conformant: bool) -> None:
    tear_down = (
        "make cluster-down" if place.embedded else f"helm uninstall -n {SYSTEM_NAMESPACE} {RELEASE}; kubectl delete ns {NAMESPACE}"
    )
    prefix = 'eval "$(make -s cluster-env)"    # KUBECONFIG and PATH\n  ' if place.embedded else ""
    console.rule("[bold]Your turn" if conformant else "[bold red]Not every conversation was conformant", align="left")
    console.print(
        f"The agent goes on running. Talk to it:\n  {prefix}.venv/bin/subterra chat {AGENT} -n {NAMESPACE}\n"
        f"or by its OpenAI-compatible API:\n  kubectl port-forward -n {NAMESPACE} service/{AGENT} 8000\n"
        f"Edit examples/travel/procedure.yaml, apply it again, and watch:\n  .venv/bin/subterra watch {AGENT} -n {NAMESPACE}\n"
        f"Tear down:\n  {tear_down}",
        highlight=False, markup=False,
    )  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--context", help="use this context of your kubeconfig instead of the embedded cluster")
    parser.add_argument("--registry", help="with --context: push the images here")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
