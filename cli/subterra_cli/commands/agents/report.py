"""``subterra report``."""

from pathlib import Path
from typing import Annotated

import typer

from subterra_cli.commands.options import ClusterOptions, Context, Kubeconfig, Namespace, exit_on_error

FILE = "File to write; default: NAME-report.html; - is standard output."
OPEN = "Open it in the browser, if there is one."


def report(
    name: Annotated[str, typer.Argument(help="Name of a CompiledAgent, for the report of its current run, or of a CompileRun.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help=FILE)] = None,
    show: Annotated[bool, typer.Option("--open/--no-open", help=OPEN)] = True,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Fetch and open the report of an agent's current run, or a run.

    Example: subterra report travel -n demo
    """
    import webbrowser

    with exit_on_error(1):
        from subterra_cli.agents.report_file import fetch, report_path
        from subterra_cli.cluster import ClusterAccessError, ResourceReader
        from subterra_cli.output.written_file import STANDARD_OUTPUT, say_apart, write_file
        from subterra_operator.labels import MANAGED_BY, MANAGER

        target = ClusterOptions(namespace, kubeconfig, context).target()
        reader = ResourceReader(target)
        agent = reader.get("compiledagents", name)
        run_name = agent.get("status", {}).get("currentRun") if agent else name
        run = reader.get("compileruns", run_name) if run_name else None
        if run is None:
            missing = f"CompiledAgent {name} has no run yet" if agent else f"no CompiledAgent and no CompileRun {name}"
            raise ClusterAccessError(f"{missing} in namespace {namespace}; see: subterra status --namespace {namespace}")
        content = fetch(target, reader.pods(f"{MANAGED_BY}={MANAGER}"), report_path(run))
        file = output or Path(f"{name}-report.html")
        write_file(file, content)
    say_apart(file, f"{file}: report of run {run_name}")
    if show and file != STANDARD_OUTPUT:
        webbrowser.open(file.resolve().as_uri())
