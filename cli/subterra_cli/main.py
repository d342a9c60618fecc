"""``subterra``, also ``kubectl subterra``: procedures as files and in the cluster, and the agents compiled from them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from subterra_cli.dataset.locate import Dataset
    from subterra_cli.load_procedure import Source

EPILOG = """
Exit codes: 0 fine · 1 no: lint found errors, diff found differences, a cap is below the least of the plan, no conversation matches,
the agent is not served or cannot be reached · 2 it could not be done: wrong use, a file that is no sound procedure, no such
dataset, a name that the cluster does not have.
"""

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help=__doc__, epilog=EPILOG, rich_markup_mode=None, pretty_exceptions_enable=False
)
imports = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Turn other tools' graphs into procedures.")
app.add_typer(imports, name="import")
datasets = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Read and export what the generate stage wrote.")
app.add_typer(datasets, name="dataset")

PROCEDURE = "A procedure's YAML file, - for standard input, or the name of a Procedure in the cluster."
Procedure = Annotated[str, typer.Argument(metavar="FILE|NAME", help=PROCEDURE)]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace in the cluster.")]
Kubeconfig = Annotated[str | None, typer.Option(help="Kubeconfig file; default as kubectl.")]
Context = Annotated[str | None, typer.Option(help="Kubeconfig context.")]


class Picture(StrEnum):
    """How `graph` shows a procedure."""

    TABLE = "table"
    JSON = "json"
    MERMAID = "mermaid"
    SVG = "svg"
    HTML = "html"


class Answer(StrEnum):
    """Text for people or data for scripts."""

    TEXT = "text"
    JSON = "json"


class Outcome(StrEnum):
    """How a conversation ends."""

    SUCCESS = "success"
    ABANDONMENT = "abandonment"
    ESCALATION = "escalation"


class Split(StrEnum):
    """Which side of a dataset."""

    TRAIN = "train"
    HELDOUT = "heldout"
    ALL = "all"


class Rows(StrEnum):
    """How conversations are written for other trainers."""

    JSONL = "jsonl"
    PARQUET = "parquet"


Format = Annotated[Answer, typer.Option("--output", "-o", help="Text for people, JSON for scripts.")]


@app.command()
def lint(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A procedure's YAML file, or - for standard input.")],
    output: Format = Answer.TEXT,
) -> None:
    """Say what is wrong with a procedure, where, and what cures it.

    Example: subterra lint examples/travel/procedure.yaml
    """
    from subterra_cli.lint import examined
    from subterra_cli.render import as_json, summary

    report = examined(file)
    if output is Answer.JSON:
        typer.echo(as_json(report.data()))
    else:
        for line in report.lines():
            typer.echo(line, err=True)
        if report.analysis and not report.errors:
            typer.echo(summary(report.analysis))
    raise typer.Exit(1 if report.errors else 0)


@app.command()
def graph(
    procedure: Procedure,
    output: Annotated[Picture, typer.Option("--output", "-o", help="How to show it.")] = Picture.TABLE,
    dataset: Annotated[
        Path | None, typer.Option(help="A dataset's folder, coverage.json or labels.jsonl: tells how often edges are taken.")
    ] = None,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show a procedure: its nodes, branches, loops, endings, and how many paths it has.

    Example: subterra graph examples/travel/procedure.yaml -o html > travel.html
    """
    from subterra_cli import render
    from subterra_cli.dataset.edge_counts import read_visits

    with _expected_errors():
        found = _sound(procedure, namespace, kubeconfig, context)
        visits = read_visits(dataset, found.spec) if dataset else None
        if output is Picture.TABLE:
            render.graph_table(found.spec, found.analysis, visits)
        elif output is Picture.JSON:
            typer.echo(render.as_json(render.graph_data(found.name, found.spec, found.analysis, visits)))
        else:
            typer.echo(render.picture(output.value, found, visits), nl=False)


@app.command()
def paths(
    procedure: Procedure,
    outcome: Annotated[Outcome | None, typer.Option(help="Only paths that end so.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="List at most so many.")] = 1000,
    output: Format = Answer.TEXT,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """List the ways that a conversation can go.

    Example: subterra paths examples/travel/procedure.yaml --outcome escalation
    """
    from subterra_cli import render

    with _expected_errors():
        spec = _sound(procedure, namespace, kubeconfig, context).spec
        listed, more = render.some_paths(spec, outcome.value if outcome else None, limit)
        if output is Answer.JSON:
            typer.echo(render.as_json([render.path_data(spec, path) for path in listed]))
        else:
            for line in render.path_lines(spec, listed):
                typer.echo(line)
        if more:
            typer.echo(f"there are more than these {limit:,} paths; raise --limit to see them", err=True)


@app.command()
def diff(
    old: Procedure,
    new: Procedure,
    output: Format = Answer.TEXT,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Compare two versions of a procedure: nodes, edges, paths, and the share of turns to write again.

    Exits with 0 when they mean the same, so that nothing is compiled, and with 1 when they differ.

    Example: subterra diff travel examples/travel/procedure.yaml -n demo
    """
    from subterra_cli import render
    from subterra_cli.procedure_diff import compare

    with _expected_errors():
        before, after = (_sound(each, namespace, kubeconfig, context).spec for each in (old, new))
        found = compare(before, after)
        if output is Answer.JSON:
            typer.echo(render.as_json(render.difference_data(found)))
        else:
            for line in render.difference_lines(found):
                typer.echo(line)
    raise typer.Exit(1 if found.new_run else 0)


@app.command()
def plan(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="A Procedure, and the CompiledAgent or CompileRun of it.")],
    recompile: Annotated[bool, typer.Option("--recompile", help="A later compile: what serves is played beside it.")] = False,
    prices: Annotated[str | None, typer.Option(metavar="FILE", help="Models' prices, as in the chart's values.")] = None,
    output: Format = Answer.TEXT,
) -> None:
    """Tell what a compile will pay to providers, part by part, before anything is applied.

    Exits with 1 when a cap of the manifests does not cover even the least of it.

    Example: subterra plan examples/travel/procedure.yaml examples/travel/agent.yaml
    """
    with _expected_errors():
        from subterra_cli import cost_plan as planning
        from subterra_cli.manifests import prices_in, read
        from subterra_cli.render import as_json, console

        found = planning.planned(read(files, recompile=recompile), prices_in(prices) if prices else {})
        if output is Answer.JSON:
            typer.echo(as_json(planning.data(found)))
        else:
            console().print(planning.table(found))
            for line in planning.lines(found):
                typer.echo(line)
    raise typer.Exit(0 if found.covered else 1)


@imports.command()
def langgraph(
    target: Annotated[str, typer.Argument(metavar="MODULE:GRAPH", help="A compiled StateGraph; its module is run.")],
    name: Annotated[str | None, typer.Option(help="Name of the procedure; default the module's.")] = None,
) -> None:
    """Write a LangGraph graph as a procedure; what the graph does not say is marked GAP for you to fill in.

    Example: subterra import langgraph shop.agent:graph > procedure.yaml
    """
    from subterra_cli.import_langgraph import document, flow_of, gaps, procedure

    with _expected_errors():
        found = procedure(flow_of(target), name or target.partition(":")[0].rpartition(".")[2].replace("_", "-").lower())
        typer.echo(document(found, target), nl=False)
        typer.echo(f"{len(gaps(found))} gaps to fill in; `subterra lint FILE` tells each", err=True)


Place = Annotated[str, typer.Argument(metavar="STORE|DIR", help="A store (s3://bucket/prefix, a folder) or a dataset's folder.")]
DatasetKey = Annotated[str | None, typer.Option(help="Which dataset of the store: its folder's name or its digest.")]
RunName = Annotated[str | None, typer.Option(help="Which dataset of the store: that of this CompileRun, read from the cluster.")]


@datasets.command()
def export(
    place: Place,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="File to write; - is standard output.")],
    key: DatasetKey = None,
    run: RunName = None,
    form: Annotated[Rows, typer.Option("--format", help="One JSON object a line, or a Parquet file.")] = Rows.JSONL,
    split: Annotated[Split, typer.Option(help="Which conversations.")] = Split.TRAIN,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Write a dataset in the chat format that other trainers read: rows of {"messages": [...]}.

    Example: subterra dataset export s3://models/demo --run travel-0a1b2c3d -o train.jsonl
    """
    with _expected_errors():
        from subterra_cli.dataset.conversations import Choice, read, write

        dataset = _dataset(place, key, run, (namespace, kubeconfig, context))
        found = read(dataset, Choice(split.value))
        write(found, form.value, output)
        typer.echo(f"{len(found):,} conversations of dataset {dataset.digest} ({split.value})", err=True)


@datasets.command()
def show(
    place: Place,
    key: DatasetKey = None,
    run: RunName = None,
    terminal: Annotated[str | None, typer.Option(metavar="NODE", help="Only conversations that end here.")] = None,
    edge: Annotated[str | None, typer.Option(metavar="FROM:TO", help="Only conversations that go this way.")] = None,
    split: Annotated[Split, typer.Option(help="Which conversations.")] = Split.ALL,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many.")] = 20,
    output: Format = Answer.TEXT,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Page through conversations, with the nodes of each turn beside it.

    Example: subterra dataset show s3://models/demo --run travel-0a1b2c3d --terminal handover
    """
    with _expected_errors():
        from pydoc import pager

        from subterra_cli.dataset.conversations import Choice, lines, nothing, parse_edge, read
        from subterra_cli.render import as_json

        choice = Choice(split.value, terminal, parse_edge(edge) if edge else None)
        dataset = _dataset(place, key, run, (namespace, kubeconfig, context))
        found = read(dataset, choice)
        if output is Answer.JSON:
            typer.echo(as_json([each.data() for each in found[:limit]]))
        elif found:
            text = "\n".join(lines(found[:limit]))
            pager(text) if sys.stdout.isatty() else typer.echo(text)
        if not found:
            typer.echo(nothing(dataset, choice), err=True)
            raise typer.Exit(1)
        typer.echo(f"{min(limit, len(found)):,} of {len(found):,} conversations; --limit shows more", err=True)


def _dataset(place: str, key: str | None, run: str | None, where: tuple[str, str | None, str | None]) -> "Dataset":
    """The dataset that the options name."""
    from subterra_cli.dataset.locate import of_run, open_dataset
    from subterra_cli.errors import CommandError

    if run is None:
        return open_dataset(place, key)
    if key is not None:
        raise CommandError("--run and --key both say which dataset; give one of them")
    from subterra_cli.cluster import ClusterError, Reader, Target

    found = Reader(Target(*where)).get("compileruns", run)
    if found is None:
        raise ClusterError(f"there is no CompileRun {run} in namespace {where[0]}")
    return open_dataset(place, of_run(found))


@app.command()
def watch(
    agent: Annotated[str, typer.Argument(help="Name of the CompiledAgent.")],
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most.")] = 86400,
) -> None:
    """Follow an agent's compilation until it is served.

    Example: subterra watch travel -n demo
    """
    from rich.console import Console

    from subterra_cli.cluster import ClusterError, Reader, Target
    from subterra_cli.watch_compile import watch as follow

    try:
        follow(Reader(Target(namespace, kubeconfig, context)), agent, Console(), timeout=timeout)
    except ClusterError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


@app.command()
def chat(
    agent: Annotated[str, typer.Argument(help="Name of the CompiledAgent.")],
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    port: Annotated[int, typer.Option(help="Port of the agent's Service.")] = 8000,
) -> None:
    """Talk to a served agent; an empty line ends it.

    Example: subterra chat travel -n demo
    """
    from subterra_cli.chat import Conversation
    from subterra_cli.cluster import ClusterError, Target, forwarded

    try:
        with forwarded(Target(namespace, kubeconfig, context), agent, port) as url:
            conversation = Conversation(url, agent)
            typer.echo(f"agent: {conversation.greet()}")
            while line := typer.prompt("you", default="", show_default=False):
                typer.echo(f"agent: {conversation.say(line)}")
    except ClusterError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def _sound(procedure: str, namespace: str, kubeconfig: str | None, context: str | None) -> "Source":
    """The procedure in a file or in the cluster, without errors."""
    from subterra_cli.load_procedure import from_cluster, is_file, sound

    if is_file(procedure):
        return sound(procedure)
    return from_cluster(procedure, namespace, kubeconfig, context)


@contextmanager
def _expected_errors() -> Iterator[None]:
    """Tells what went wrong in one message and exits with 2."""
    from subterra_cli.errors import CommandError

    try:
        yield
    except CommandError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
