"""``subterra init``."""

from pathlib import Path
from typing import Annotated

import typer

from subterra_cli.commands.options import exit_on_error


def init(
    name: Annotated[str, typer.Argument(help="Name of the Procedure and of the agent.")] = "first",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="File to write; default: NAME.yaml.")
    ] = None,
) -> None:
    """Write a commented procedure and its agent to start from.

    Example: subterra init shop
    """
    with exit_on_error():
        from subterra_api.crd import NAME_FIX
        from subterra_cli.errors import CommandError
        from subterra_cli.files.first_agent import first_agent
        from subterra_cli.files.lint_files import AGENT_NAME

        if not AGENT_NAME.fullmatch(name):
            raise CommandError(f"{name!r} cannot be the name of an agent; use at most 40 {NAME_FIX}")
        file = output or Path(f"{name}.yaml")
        try:
            with file.open("x", encoding="utf-8") as stream:
                stream.write(first_agent(name))
        except FileExistsError:
            raise CommandError(f"{file} exists already; remove it, or write to another file with --output") from None
        except OSError as error:
            raise CommandError(f"{file} cannot be written: {error.strerror}; choose another with --output") from None
    typer.echo(f"{file} written; next: subterra lint {file}")
