"""``subterra import langgraph``."""

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


def _module_name(target: str) -> str:
    """``shop.my_agent:graph`` as ``my-agent``."""
    return target.partition(":")[0].rpartition(".")[2].replace("_", "-").lower()
