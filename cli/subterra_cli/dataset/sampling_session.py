"""Writes a sample with progress on a terminal; the price is said before the first call and after the last one."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.status import Status

from subterra_api.job_contract.defaults import evaluation_of
from subterra_api.job_contract.environment import KEY_VARIABLES
from subterra_api.v1alpha1 import RETRY_AT
from subterra_api.v1alpha1.compilerun import EvaluationSettings, Provider
from subterra_cli.dataset.sample_settings import TEACHER, SampleSettings
from subterra_cli.errors import CommandError
from subterra_cli.files.model_file import SDKS_MISSING
from subterra_cli.output.render import counted
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.phrasing.language import NOT_ENGLISH, speaks_english
from subterra_jobs.errors import BudgetExceededError, InvalidInputError, StageError
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.sample.example_prompts import ExamplePrompt, example_prompts
from subterra_jobs.generate.sample.sample_run import Sample, SampleProgress, SampleRun, forecast, planned_sample
from subterra_jobs.stage.cancellation import STOP_SECONDS

_KEY_OF_A_RUN = "the Secret named by execution.apiKeySecret"
_OWN_WORDS = {
    f", then set the annotation {RETRY_AT} to the current time": "",
    "; finished work is not paid twice": "",
    "the run will be retried, and paid responses are kept": "try again later",
    f"{TEACHER}.baseURL": "--base-url",
    f"{TEACHER}.model": TEACHER,
}
"""What a stage says of a run, and what fits this command instead."""


def plan_sample(graph: Graph, settings: SampleSettings, count: int) -> list[ConversationSpec]:
    """The first conversations of the compile's plan. Raises CommandError."""
    try:
        with _status(f"planning {counted(settings.generation.conversations, 'conversation')}"):
            return planned_sample(graph, settings.generation, count)
    except InvalidInputError as error:
        raise CommandError(str(error)) from None


def plan_prompts(graph: Graph, settings: SampleSettings) -> list[ExamplePrompt]:
    """One prompt of each kind, from the plan for a hosted teacher. Raises CommandError."""
    generation = settings.generation
    if generation.teacher.name == "scripted":  # no prompts: show those that any hosted teacher would get
        generation = generation.model_copy(update={"teacher": Provider(name="openai", model="any")})
    try:
        with _status(f"planning {counted(generation.conversations, 'conversation')}"):
            return example_prompts(graph, plan_conversations(graph.spec, generation))
    except InvalidInputError as error:
        raise CommandError(str(error)) from None


def plan_evaluation_prompts(graph: Graph) -> list[ExamplePrompt]:
    """One prompt of each kind that models get in an evaluation with the default seed. Raises CommandError."""
    from subterra_jobs.evaluate.evaluation_prompts import evaluation_prompts

    try:
        found = evaluation_prompts(graph, evaluation_of(EvaluationSettings()).seed)
    except InvalidInputError as error:
        raise CommandError(str(error)) from None
    return [ExamplePrompt(kind, scenario, "", request) for kind, scenario, request in found]


def announce_price(graph: Graph, settings: SampleSettings, plan: Sequence[ConversationSpec]) -> None:
    """Says what the sample is expected to cost. Raises CommandError when `--max-usd` does not cover it."""
    size = counted(len(plan), "conversation")
    if settings.account is None:
        typer.echo(f"{size} by the scripted teacher: free", err=True)
        if not speaks_english(graph.spec):
            typer.echo(f"{NOT_ENGLISH}: customers say the examples alone", err=True)
        return
    cost = forecast(graph, plan, settings.account, settings.generation)
    calls = f"{cost.low.calls:,} to {cost.high.calls:,} calls of {settings.account.model}"
    said = f"{size}: {calls}, forecast {cost}"
    if cost.high.usd > settings.max_usd:
        raise CommandError(
            f"{said}: more than --max-usd {settings.max_usd.normalize():f}; nothing was paid. Raise --max-usd, "
            "write fewer conversations (-n), or take a cheaper model (`subterra models`)"
        )
    typer.echo(f"{said}, never more than ${settings.max_usd.normalize():f}", err=True)
    for assumption in cost.assumptions:
        typer.echo(assumption, err=True)


def write_sample(graph: Graph, settings: SampleSettings, plan: Sequence[ConversationSpec]) -> Sample:
    """Writes the plan, as far as no signal and no failure ends it. Raises CommandError when the SDKs are not installed."""
    turns = sum(len(spec.path) + len(spec.audited) for spec in plan)
    with _status("writing") as status:

        def show(progress: SampleProgress) -> None:
            if status is not None:
                paid = f", ${progress.usd:.4f}" if settings.account else ""
                done = f"{progress.conversations} of {len(plan)} conversations, {progress.replies} of about {turns} turns"
                status.update(f"{done}{paid}; Ctrl-C ends and shows what is finished")

        def stopping() -> None:
            typer.echo(f"ending: turns in progress are finished, for at most {STOP_SECONDS:.0f} s", err=True)

        run = SampleRun(graph, plan, settings.generation, settings.account, settings.max_usd, show, stopping)
        try:
            return asyncio.run(run.write())
        except ImportError:
            raise CommandError(SDKS_MISSING) from None


@contextmanager
def _status(text: str) -> Iterator[Status | None]:
    """A line that can be updated, on a terminal; `None` elsewhere."""
    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        yield None
        return
    with console.status(text) as status:
        yield status


def failure_message(failure: StageError, settings: SampleSettings) -> str:
    """Why the sample is incomplete, with this command's own fix where the stage names fields of a run."""
    if isinstance(failure, BudgetExceededError):
        return (
            f"stopped: the next call could exceed --max-usd {settings.max_usd.normalize():f}, as each call is counted at the "
            "most that it can cost; raise --max-usd"
        )
    return f"stopped: {without_words_of_a_run(str(failure), settings.generation.teacher)}"


def without_words_of_a_run(message: str, provider: Provider) -> str:
    """A stage's message about a call to `provider`, in words that fit a command."""
    for words, own in _OWN_WORDS.items():
        message = message.replace(words, own)
    return message.replace(_KEY_OF_A_RUN, KEY_VARIABLES.get(provider.name, "the key"))
