"""``subterra import langgraph`` and ``subterra import mermaid``."""

import re
from pathlib import Path
from typing import Annotated

import typer

from subterra_cli.commands.options import exit_on_error

imports = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Convert other tools' graphs to procedures.")


@imports.command()
def langgraph(
    target: Annotated[str, typer.Argument(metavar="MODULE:GRAPH", help="A compiled StateGraph; importing it runs its module.")],
    name: Annotated[str | None, typer.Option(help="Name of the procedure; default: the module's name.")] = None,
) -> None:
    """Convert a LangGraph graph to a procedure; what the graph does not specify is marked GAP for you to fill in.

    Example: subterra import langgraph shop.agent:graph > procedure.yaml
    """
    from subterra_cli.imports.langgraph_flow import find_gaps, load_flow, to_procedure, to_yaml

    with exit_on_error():
        procedure = to_procedure(load_flow(target), name or _module_name(target))
        typer.echo(to_yaml(procedure, target), nl=False)
        typer.echo(f"{len(find_gaps(procedure))} gaps to fill in; `subterra lint FILE` lists them", err=True)


@imports.command()
def mermaid(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A Mermaid file, or Markdown with flowcharts in ```mermaid fences.")],
    name: Annotated[str | None, typer.Option(help="Name of the procedure; default: the file's name.")] = None,
    chart: Annotated[int | None, typer.Option(min=1, help="Which flowchart of the file, counted from 1.")] = None,
) -> None:
    """Convert a Mermaid flowchart to a procedure; what the drawing does not say is marked GAP, or reported by lint.

    Example: subterra import mermaid support.md > procedure.yaml
    """
    from subterra_cli.imports.langgraph_flow import find_gaps
    from subterra_cli.imports.mermaid_flow import to_procedure, to_yaml
    from subterra_cli.imports.mermaid_text import choose_chart, parse_flowchart, read_text

    with exit_on_error():
        text = choose_chart(read_text(file), str(file), chart)
        procedure = to_procedure(parse_flowchart(text), name or re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-"))
        typer.echo(to_yaml(procedure, str(file)), nl=False)
        endings = sum(1 for node in procedure["spec"]["nodes"] if not node.get("next") and "outcome" not in node)
        left = f"{len(find_gaps(procedure))} gaps to fill in, {endings} endings without an outcome"
        typer.echo(f"{left}; `subterra lint FILE` lists them", err=True)


def _module_name(target: str) -> str:
    """``shop.my_agent:graph`` as ``my-agent``."""
    return target.partition(":")[0].rpartition(".")[2].replace("_", "-").lower()
