"""``subterra dataset export`` and ``subterra dataset show``."""

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from subterra_cli.commands.options import ClusterOptions, Context, Kubeconfig, Namespace, Output, OutputFormat, exit_on_error

if TYPE_CHECKING:
    from subterra_cli.dataset.locate import Dataset

datasets = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Read and export what the generate stage wrote.")


class SplitChoice(StrEnum):
    """Part of a dataset."""

    TRAIN = "train"
    HELDOUT = "heldout"
    ALL = "all"


class RowFormat(StrEnum):
    """File format of exported conversations."""

    JSONL = "jsonl"
    PARQUET = "parquet"


Location = Annotated[
    str, typer.Argument(metavar="STORE|DIR", help="A store (s3://bucket/prefix or a folder) or a dataset's folder.")
]
DatasetKey = Annotated[str | None, typer.Option(help="Dataset in the store, by the name of its folder or by its digest.")]
RunName = Annotated[str | None, typer.Option(help="Dataset of this CompileRun, whose status is read from the cluster.")]
Split = Annotated[SplitChoice, typer.Option(help="Which conversations.")]


@datasets.command()
def export(
    location: Location,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="File to write; - is standard output.")],
    key: DatasetKey = None,
    run: RunName = None,
    form: Annotated[RowFormat, typer.Option("--format", help="One JSON object per line, or a Parquet file.")] = RowFormat.JSONL,
    split: Split = SplitChoice.TRAIN,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Write a dataset in the chat format that other trainers read: rows of {"messages": [...]}.

    Example: subterra dataset export s3://models/demo --run travel-0a1b2c3d -o train.jsonl
    """
    with exit_on_error():
        from subterra_cli.dataset.conversations import ConversationFilter, export_rows, read_conversations

        dataset = _dataset(location, key, run, ClusterOptions(namespace, kubeconfig, context))
        conversations = read_conversations(dataset, ConversationFilter(split.value))
        export_rows(conversations, form.value, output)
        typer.echo(f"{len(conversations):,} conversations of dataset {dataset.digest} ({split.value})", err=True)


@datasets.command()
def show(
    location: Location,
    key: DatasetKey = None,
    run: RunName = None,
    terminal: Annotated[str | None, typer.Option(metavar="NODE", help="Only conversations that end at this node.")] = None,
    edge: Annotated[str | None, typer.Option(metavar="FROM:TO", help="Only conversations that take this edge.")] = None,
    split: Split = SplitChoice.ALL,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number to show.")] = 20,
    output: Output = OutputFormat.TEXT,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Page through conversations, with the nodes of each turn.

    Example: subterra dataset show s3://models/demo --run travel-0a1b2c3d --terminal handover
    """
    with exit_on_error():
        from subterra_cli.dataset.conversations import (
            ConversationFilter,
            conversation_lines,
            no_match_message,
            parse_edge,
            read_conversations,
        )
        from subterra_cli.output.render import as_json

        wanted = ConversationFilter(split.value, terminal, parse_edge(edge) if edge else None)
        dataset = _dataset(location, key, run, ClusterOptions(namespace, kubeconfig, context))
        conversations = read_conversations(dataset, wanted)
        if output is OutputFormat.JSON:
            typer.echo(as_json([conversation.data() for conversation in conversations[:limit]]))
        elif conversations:
            _page("\n".join(conversation_lines(conversations[:limit])))
        if not conversations:
            typer.echo(no_match_message(dataset, wanted), err=True)
            raise typer.Exit(1)
        shown = min(limit, len(conversations))
        typer.echo(f"{shown:,} of {len(conversations):,} conversations; raise --limit to see more", err=True)


def _page(text: str) -> None:
    from pydoc import pager

    pager(text) if sys.stdout.isatty() else typer.echo(text)


def _dataset(location: str, key: str | None, run: str | None, cluster: ClusterOptions) -> "Dataset":
    """The dataset that the options select. Raises CommandError."""
    from subterra_cli.dataset.locate import dataset_path_of_run, open_dataset
    from subterra_cli.errors import CommandError

    if run is None:
        return open_dataset(location, key)
    if key is not None:
        raise CommandError("--run and --key both select a dataset; pass only one of them")
    from subterra_cli.cluster import ClusterAccessError, ResourceReader

    compile_run = ResourceReader(cluster.target()).get("compileruns", run)
    if compile_run is None:
        raise ClusterAccessError(f"CompileRun {run} not found in namespace {cluster.namespace}")
    return open_dataset(location, dataset_path_of_run(compile_run))
