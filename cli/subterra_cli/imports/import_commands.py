"""``subterra import``: langgraph, mermaid, bpmn, rasa and dialogflow."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subterra_cli.commands.options import exit_on_error

if TYPE_CHECKING:
    from subterra_cli.imports.drafts.draft import Draft

imports = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Convert other tools' graphs to procedures.")
_Name = Annotated[str | None, typer.Option(help="Name of the procedure; default: the file's name.")]


@imports.command()
def langgraph(
    target: Annotated[str, typer.Argument(metavar="MODULE:GRAPH", help="A compiled StateGraph; importing it runs its module.")],
    name: Annotated[str | None, typer.Option(help="Name of the procedure; default: the module's name.")] = None,
    per_message: Annotated[
        bool, typer.Option("--per-message", help="The graph runs once for each message: where it ends, the customer goes on.")
    ] = False,
) -> None:
    """Convert a LangGraph graph to a procedure.

    What the graph does not specify is marked GAP for you to fill in.

    Example: subterra import langgraph shop.agent:graph > procedure.yaml
    """
    from subterra_cli.imports.langgraph_flow import to_procedure, to_yaml
    from subterra_cli.imports.langgraph_reader import load_flow

    with exit_on_error():
        procedure = to_procedure(load_flow(target), name or _module_name(target), per_message=per_message)
        typer.echo(to_yaml(procedure, target), nl=False)
        _summarize(procedure, target)


@imports.command()
def mermaid(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A Mermaid file, or Markdown with flowcharts in ```mermaid fences.")],
    name: _Name = None,
    chart: Annotated[int | None, typer.Option(min=1, help="Which flowchart of the file, counted from 1.")] = None,
) -> None:
    """Convert a Mermaid flowchart to a procedure.

    What the drawing does not say is marked GAP, or reported by lint.

    Example: subterra import mermaid support.md > procedure.yaml
    """
    from subterra_cli.imports.mermaid_flow import to_procedure, to_yaml
    from subterra_cli.imports.mermaid_text import choose_chart, parse_flowchart, read_text

    with exit_on_error():
        text = choose_chart(read_text(file), str(file), chart)
        procedure = to_procedure(parse_flowchart(text), name or _file_name(file))
        typer.echo(to_yaml(procedure, str(file)), nl=False)
        endings = sum(1 for node in procedure["spec"]["nodes"] if not node.get("next") and "outcome" not in node)
        _summarize(procedure, str(file), f", {'1 ending' if endings == 1 else f'{endings} endings'} without an outcome")


@imports.command()
def bpmn(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="BPMN 2.0 XML.")],
    name: _Name = None,
    process: Annotated[str | None, typer.Option(metavar="NAME", help="Which process: name of its pool, or id.")] = None,
    customer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A pool or lane that is the customer; repeatable. Default: by names such as Customer."),
    ] = None,
) -> None:
    """Convert a BPMN 2.0 process to a procedure.

    What the process does not say is marked GAP for you to fill in.

    Example: subterra import bpmn support.bpmn > procedure.yaml
    """
    from subterra_cli.imports.bpmn.bpmn_flow import HINTS, to_draft
    from subterra_cli.imports.bpmn.bpmn_xml import read_model

    with exit_on_error():
        _print(to_draft(read_model(file), str(file), process, customer or ()), name or _file_name(file), str(file), HINTS)


@imports.command()
def rasa(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A project's folder, or a file with flows.")],
    name: _Name = None,
    flow: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A flow that the customer can start; repeatable. Default: all that can be started."),
    ] = None,
    domain: Annotated[
        Path | None, typer.Option(metavar="PATH", help="The domain's file or folder; default: one near a file of flows.")
    ] = None,
) -> None:
    """Convert Rasa CALM flows to a procedure.

    What the flows do not say is marked GAP for you to fill in.

    Example: subterra import rasa my-assistant/ --flow transfer_money > procedure.yaml
    """
    from subterra_cli.imports.rasa.rasa_flow import HINTS, to_draft
    from subterra_cli.imports.rasa.rasa_project import read_project

    with exit_on_error():
        _print(to_draft(read_project(path, domain), flow or ()), name or _file_name(path), str(path), HINTS)


@imports.command()
def dialogflow(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="An agent that was exported as a JSON package: zip file or folder.")],
    name: _Name = None,
    flow: Annotated[
        str | None, typer.Option(metavar="NAME", help="The flow to begin with; default: the agent's start flow.")
    ] = None,
) -> None:
    """Convert a Dialogflow CX agent to a procedure.

    What the agent does not say is marked GAP for you to fill in.

    Example: subterra import dialogflow exported_agent.zip > procedure.yaml
    """
    from subterra_cli.imports.dialogflow.dialogflow_agent import read_agent
    from subterra_cli.imports.dialogflow.dialogflow_flow import HINTS, to_draft

    with exit_on_error():
        _print(to_draft(read_agent(path), flow), name or _file_name(path), str(path), HINTS)


def _print(draft: "Draft", name: str, source: str, hints: tuple[str, ...]) -> None:
    """The procedure on standard output; what was left out, and the summary, on standard error."""
    from subterra_cli.imports.drafts.draft_procedure import to_procedure, to_yaml

    procedure = to_procedure(draft, name)
    typer.echo(to_yaml(procedure, source, (*hints, *draft.notes)), nl=False)
    _tell(f"left out: {note}" for note in draft.notes)
    _summarize(procedure, source)


def _summarize(procedure: dict[str, Any], source: str, more: str = "") -> None:
    from subterra_cli.imports.gap_count import figures

    _tell([f"{source}: {figures(procedure)}{more}; `subterra lint FILE` lists them"])


def _tell(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line, err=True)


def _module_name(target: str) -> str:
    """``shop.my_agent:graph`` as ``my-agent``."""
    return target.partition(":")[0].rpartition(".")[2].replace("_", "-").lower()


def _file_name(path: Path) -> str:
    """A valid name of an object that reads like the file's or folder's."""
    return re.sub(r"[^a-z0-9]+", "-", (path.stem if path.suffix else path.resolve().name).lower())[:50].strip("-") or "procedure"
