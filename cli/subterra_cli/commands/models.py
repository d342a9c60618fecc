"""``subterra models`` and ``subterra models refresh``."""

import os
from typing import Annotated

import typer

from subterra_cli.commands.options import Output, OutputFormat, exit_on_error

models = typer.Typer(rich_markup_mode=None, help="Show or update the list of hosted models and their prices.")
ALL = "Include models that have retired."
FILE = "The list to update; default: the one of this installation."
CHECK = "Change nothing; exit with 1 if the list is out of date."


@models.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help=ALL)] = False,
    output: Output = OutputFormat.TEXT,
) -> None:
    """List hosted models with their prices per million tokens, when they retire and what replaces them.

    Example: subterra models --all
    """
    if context.invoked_subcommand is not None:
        return
    from subterra_cli.output import model_table
    from subterra_cli.output.render import as_json, console
    from subterra_core.hosted_models.catalog import hosted_models

    shown = [model for model in hosted_models() if everything or model.state != "retired"]
    if output is OutputFormat.JSON:
        typer.echo(as_json(model_table.data(shown)))
    else:
        console().print(model_table.table(shown))
        typer.echo(model_table.FOOTER)


@models.command()
def refresh(
    file: Annotated[str | None, typer.Option(metavar="FILE", help=FILE)] = None,
    check: Annotated[bool, typer.Option("--check", help=CHECK)] = False,
) -> None:
    """Update the list from the providers whose key is set: ANTHROPIC_API_KEY, OPENAI_API_KEY. It costs nothing.

    Prices are on no provider's list: compare them by hand with the pages that the list names.

    Example: subterra models refresh --check
    """
    with exit_on_error():
        from subterra_cli.files.model_file import refresh_file
        from subterra_jobs.stage import environment

        result = refresh_file(file, os.environ, environment.current_date(), write=not check)
    for line in result.changes:
        typer.echo(line)
    for name in result.missing:
        typer.echo(f"{name}: its provider does not list it any more; set state and retiresOn by hand", err=True)
    if result.unpriced:
        typer.echo(f"listed, but without an entry and a price here: {', '.join(result.unpriced)}", err=True)
    if not result.changes:
        typer.echo("nothing has changed")
    raise typer.Exit(1 if check and (result.changes or result.missing) else 0)
