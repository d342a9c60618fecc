"""Which models a stage calls, and which combinations of teacher, simulator, judges and baselines are rejected. Pure."""

import re
from collections.abc import Iterator

from subterra_api.job_contract.artifacts import Stage
from subterra_api.job_contract.messages import RunInput
from subterra_api.v1alpha1.compilerun import CompileInputs, EvaluationSettings, Provider

SCRIPTED = "scripted"
_FAMILY_ALIASES = {"o": "gpt", "chatgpt": "gpt", "claude": "anthropic"}
"""Other names for models of a family."""


def providers_called_by(inputs: CompileInputs | RunInput, stage: Stage) -> tuple[tuple[str, Provider], ...]:
    """Providers that `stage` calls, each with the field that names it; scripted ones make no calls."""
    if stage == "train":
        return ()
    if stage == "generate":
        return _without_scripted(("generation.teacher", inputs.generation.teacher))
    settings = inputs.evaluation
    baselines = ((f"evaluation.baselines[{i}].provider", item.provider) for i, item in enumerate(settings.baselines))
    judges = (("evaluation.judge", settings.judge), ("evaluation.secondJudge", settings.second_judge))
    return _without_scripted(("evaluation.simulator", settings.simulator), *judges, *baselines)


def _without_scripted(*named: tuple[str, Provider | None]) -> tuple[tuple[str, Provider], ...]:
    return tuple((field, provider) for field, provider in named if provider is not None and provider.name != SCRIPTED)


def model_family(provider: Provider) -> str:
    """Family of models that are trained alike and favor each other's texts: the provider, or a name such as gpt, qwen or llama."""
    if provider.name != "openai":
        return provider.name
    name = (provider.model or "").rpartition("/")[2].lower()
    word = re.sub("[^a-z].*", "", name) or name
    return _FAMILY_ALIASES.get(word, word)


def provider_conflicts(inputs: CompileInputs) -> tuple[str, ...]:
    """Reasons to reject these settings before anything is paid, each with its field and fix; empty if they are valid."""
    return (*_judge_conflicts(inputs), *_baseline_conflicts(inputs.evaluation))


def tool_conflicts(inputs: CompileInputs, *, has_tools: bool) -> tuple[str, ...]:
    """Reasons to reject these settings for a procedure with tools, each with its field and fix."""
    if not has_tools or not inputs.evaluation.baselines:
        return ()
    return ("evaluation.baselines: baselines cannot call the tools of the procedure, so they cannot be compared; remove them",)


def _judge_conflicts(inputs: CompileInputs) -> Iterator[str]:
    settings, teacher = inputs.evaluation, inputs.generation.teacher
    if settings.judge.name == SCRIPTED:
        if teacher.name != SCRIPTED:
            yield "evaluation.judge: the scripted judge understands only a scripted teacher's phrasings; name two models as judges"
        if settings.simulator.name != SCRIPTED:
            yield "evaluation.judge: the scripted judge requires the scripted simulator; name two models as judges"
        if settings.second_judge is not None:
            yield "evaluation.secondJudge: the scripted judge takes no second judge; remove it, or name a model as judge"
        return
    if settings.second_judge is None or settings.second_judge.name == SCRIPTED:
        yield "evaluation.secondJudge: a single model as judge is not enough; name another model"
        return
    if settings.second_judge == settings.judge:
        yield "evaluation.secondJudge: it is the same as evaluation.judge; name another model"
    families = {model_family(provider) for provider in (teacher, settings.simulator) if provider.name != SCRIPTED}
    if families and {model_family(settings.judge), model_family(settings.second_judge)} <= families:
        names = " and ".join(sorted(families))
        yield f"evaluation.secondJudge: both judges are from the families of teacher and simulator ({names}); name one of another"


def _baseline_conflicts(settings: EvaluationSettings) -> Iterator[str]:
    if not settings.baselines:
        return
    if settings.judge.name == SCRIPTED:
        yield "evaluation.baselines: the scripted judge cannot understand models; name two models as judges, or remove them"
    if settings.simulator.name == SCRIPTED:
        yield "evaluation.baselines: the scripted simulator ignores what models say; name a model as simulator, or remove them"
    for i, baseline in enumerate(settings.baselines):
        if baseline.provider.name == SCRIPTED:
            yield f"evaluation.baselines[{i}].provider: a baseline cannot be scripted; name a model"
