"""``subterra sample``."""

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subterra_cli.commands.options import ClusterOptions, Context, Kubeconfig, Procedure, exit_on_error, load_procedure

if TYPE_CHECKING:
    from subterra_cli.dataset.sample_settings import SampleOptions, SampleSettings
    from subterra_core.procedure.graph import Graph
    from subterra_jobs.generate.sample.sample_run import Sample


class SampleFormat(StrEnum):
    """How `sample` shows conversations."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"


TEACHER = "Who writes: scripted (free), anthropic:MODEL or openai:MODEL. Default: the teacher of --agent, else scripted."
BASE_URL = "An endpoint with OpenAI's API, such as a vLLM server, for openai:MODEL."
AGENT = "The CompiledAgent or CompileRun that will compile it, for its teacher, seeds and number of conversations."
SEED = "Seed of the plan; default: the first one of --agent, else 42."
MAX_USD = "Maximum US dollars to spend; a higher estimate is refused before the first call."
PROMPTS = "Print one filled prompt of each kind that a hosted teacher gets, and write nothing. Needs no key."
EVALUATION_PROMPTS = "The same for models that play customers, judge and label in the evaluation."
OUTPUT = "Text for people, JSON or one JSON object per line for scripts."


def sample(
    procedure: Procedure,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="Number of conversations.")] = 5,
    teacher: Annotated[str | None, typer.Option(metavar="NAME[:MODEL]", help=TEACHER)] = None,
    base_url: Annotated[str | None, typer.Option("--base-url", metavar="URL", help=BASE_URL)] = None,
    agent: Annotated[str | None, typer.Option("--agent", metavar="FILE", help=AGENT)] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**31 - 1, help=SEED)] = None,
    max_usd: Annotated[str, typer.Option("--max-usd", metavar="USD", help=MAX_USD)] = "1",
    prices: Annotated[str | None, typer.Option(metavar="FILE", help="Model prices, in the form of the chart's values.")] = None,
    prompts: Annotated[bool, typer.Option("--prompts", help=PROMPTS)] = False,
    evaluation_prompts: Annotated[bool, typer.Option("--evaluation-prompts", help=EVALUATION_PROMPTS)] = False,
    output: Annotated[SampleFormat, typer.Option("--output", "-o", help=OUTPUT)] = SampleFormat.TEXT,
    namespace: Annotated[str, typer.Option(help="Namespace in the cluster, for a procedure's name.")] = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Write a few training conversations to read before a compile.

    They are the first ones that a compile would write, by the same plan, prompts and checks, without a cluster. Prints the price
    before and after. A hosted teacher needs ANTHROPIC_API_KEY or OPENAI_API_KEY.

    Example: subterra sample examples/travel/procedure.yaml -n 3
    """
    from subterra_cli.dataset.sample_settings import SampleOptions

    options = SampleOptions(teacher, base_url, seed, max_usd, prices, agent)
    graph, settings = _checked(
        procedure, ClusterOptions(namespace, kubeconfig, context), options, pays=not (prompts or evaluation_prompts)
    )
    if prompts or evaluation_prompts:
        _show_prompts(graph, settings, output, teacher=prompts, evaluation=evaluation_prompts)
        return
    from subterra_cli.dataset.sampling_session import announce_price, failure_message, plan_sample, write_sample

    with exit_on_error():
        plan = plan_sample(graph, settings, count)
        announce_price(graph, settings, plan)
        written = write_sample(graph, settings, plan)
    _show(graph, settings, written, output)
    if written.failure is not None:
        typer.echo(failure_message(written.failure, settings), err=True)
        raise typer.Exit(2)
    if written.interrupted:
        typer.echo(f"interrupted: {len(written.conversations)} of {len(plan)} conversations were finished", err=True)
    usable = any(each.conversation.drop_reason is None for each in written.conversations)
    raise typer.Exit(1 if written.interrupted or not usable else 0)


def _checked(procedure: str, cluster: ClusterOptions, options: "SampleOptions", *, pays: bool) -> "tuple[Graph, SampleSettings]":
    """The procedure and the settings; exits with 2 and all that is wrong with either."""
    from subterra_cli.dataset.sample_settings import read_settings
    from subterra_cli.errors import CommandError
    from subterra_core.procedure.graph import Graph

    problems: list[str] = []
    try:
        graph = Graph(load_procedure(procedure, cluster).spec)
    except CommandError as error:
        problems += str(error).splitlines()
    try:
        settings = read_settings(options, procedure, pays=pays)
    except CommandError as error:
        problems += str(error).splitlines()
    if not problems:
        return graph, settings
    for problem in dict.fromkeys(problems):
        typer.echo(problem, err=True)
    raise typer.Exit(2)


def _show_prompts(graph: "Graph", settings: "SampleSettings", output: SampleFormat, *, teacher: bool, evaluation: bool) -> None:
    from subterra_cli.dataset.sampling_session import plan_evaluation_prompts, plan_prompts
    from subterra_cli.output import sample_text
    from subterra_cli.output.render import as_json

    with exit_on_error():
        prompts = plan_prompts(graph, settings) if teacher else []
        prompts += plan_evaluation_prompts(graph) if evaluation else []
    if output is SampleFormat.TEXT:
        typer.echo("\n".join(sample_text.prompt_lines(prompts)), nl=False)
        return
    rows = [sample_text.prompt_data(prompt) for prompt in prompts]
    typer.echo(as_json(rows) if output is SampleFormat.JSON else _json_lines(rows))


def _show(graph: "Graph", settings: "SampleSettings", written: "Sample", output: SampleFormat) -> None:
    from subterra_cli.output import sample_text
    from subterra_cli.output.render import as_json

    totals = sample_text.totals_data(graph, written)
    line = sample_text.totals_line(totals, paid=settings.account is not None)
    if output is SampleFormat.TEXT:
        for each in sample_text.sample_lines(graph, written, scripted=settings.account is None):
            typer.echo(each)
        typer.echo(line)
        return
    rows = [sample_text.conversation_data(graph, each) for each in written.conversations]
    if output is SampleFormat.JSON:
        typer.echo(as_json({"conversations": rows, "totals": totals}))
    elif rows:
        typer.echo(_json_lines(rows))
    typer.echo(line, err=True)


def _json_lines(rows: list[dict[str, Any]]) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
