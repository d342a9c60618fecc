"""Arguments and options that several commands share, and how a command fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:
    from subterra_cli.cluster import ClusterTarget
    from subterra_cli.files.load_procedure import LoadedProcedure


class OutputFormat(StrEnum):
    """Text for people or data for scripts."""

    TEXT = "text"
    JSON = "json"


PROCEDURE = "A procedure's YAML file, - for standard input, or the name of a Procedure in the cluster."
Procedure = Annotated[str, typer.Argument(metavar="FILE|NAME", help=PROCEDURE)]
Agent = Annotated[str, typer.Argument(help="Name of the CompiledAgent.")]
Output = Annotated[OutputFormat, typer.Option("--output", "-o", help="Text for people, JSON for scripts.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace in the cluster.")]
Kubeconfig = Annotated[str | None, typer.Option(help="Kubeconfig file; default: the same as kubectl.")]
Context = Annotated[str | None, typer.Option(help="Kubeconfig context.")]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--api-key-file",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="File with the API key of an agent that demands one; else the variable SUBTERRA_API_KEY is read, else the Secret that "
        "the agent names.",
    ),
]


class ClusterOptions(NamedTuple):
    """Which namespace of which cluster."""

    namespace: str
    kubeconfig: str | None
    context: str | None

    def target(self) -> "ClusterTarget":
        """The same for the cluster client, which is imported here and not at start-up."""
        from subterra_cli.cluster import ClusterTarget

        return ClusterTarget(*self)


def load_procedure(procedure: str, cluster: ClusterOptions) -> "LoadedProcedure":
    """The valid procedure in a file or in the cluster. Raises CommandError."""
    from subterra_cli.files.load_procedure import from_cluster, from_file, is_file

    return from_file(procedure) if is_file(procedure) else from_cluster(procedure, cluster.target())


@contextmanager
def exit_on_error(code: int = 2) -> Iterator[None]:
    """Prints the message of a CommandError, which may quote what a server sent, and exits with ``code``."""
    from subterra_cli.errors import CommandError

    try:
        yield
    except CommandError as error:
        from subterra_core.drawing.graph_summary import clean

        typer.echo(clean(str(error)), err=True)
        raise typer.Exit(code) from None
