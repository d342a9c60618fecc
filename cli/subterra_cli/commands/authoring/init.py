"""``subterra init``."""

from pathlib import Path
from typing import Annotated

import typer

from subterra_cli.commands.options import exit_on_error

FILE = "File to write; default: NAME.yaml; - is standard output."


def init(
    name: Annotated[str, typer.Argument(help="Name of the Procedure and of the agent.")] = "first",
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help=FILE)] = None,
) -> None:
    """Write a commented procedure and its agent to start from.

    Example: subterra init shop
    """
    with exit_on_error():
        from subterra_api.crd import NAME_FIX
        from subterra_cli.errors import CommandError
        from subterra_cli.files.first_agent import first_agent
        from subterra_cli.files.lint_files import AGENT_NAME
        from subterra_cli.output.written_file import STANDARD_OUTPUT, write_file

        if not AGENT_NAME.fullmatch(name):
            raise CommandError(f"{name!r} cannot be the name of an agent; use at most 40 {NAME_FIX}")
        file = output or Path(f"{name}.yaml")
        write_file(file, first_agent(name), must_be_new=True)
    if file != STANDARD_OUTPUT:
        typer.echo(f"{file} written; next: subterra lint {file}")
