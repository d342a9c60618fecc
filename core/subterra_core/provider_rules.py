"""Who writes, plays and judges: which models a stage calls, and whether they fit together. Pure."""

import re
from collections.abc import Iterator

from subterra_api.job_contract.artifacts import Stage
from subterra_api.v1alpha1.compilerun import CompileInputs, EvaluationSettings, Provider

RULES = "scripted"
_SAME_MAKER = {"o": "gpt", "chatgpt": "gpt", "claude": "anthropic"}
"""What else the models of a family are called."""


def called(inputs: CompileInputs, stage: Stage) -> tuple[tuple[str, Provider], ...]:
    """The models that a stage calls, each with the field that names it."""
    if stage == "train":
        return ()
    if stage == "generate":
        return _models(("generation.teacher", inputs.generation.teacher))
    asked = inputs.evaluation
    baselines = ((f"evaluation.baselines[{i}].provider", each.provider) for i, each in enumerate(asked.baselines))
    judges = (("evaluation.judge", asked.judge), ("evaluation.secondJudge", asked.second_judge))
    return _models(("evaluation.simulator", asked.simulator), *judges, *baselines)


def _models(*named: tuple[str, Provider | None]) -> tuple[tuple[str, Provider], ...]:
    return tuple((field, provider) for field, provider in named if provider is not None and provider.name != RULES)


def family(provider: Provider) -> str:
    """Models that are trained alike and like each other's words: a provider's own, or one name, such as gpt, qwen or llama."""
    if provider.name != "openai":
        return provider.name
    name = (provider.model or "").rpartition("/")[2].lower()
    word = re.sub("[^a-z].*", "", name) or name
    return _SAME_MAKER.get(word, word)


def refusals(inputs: CompileInputs) -> tuple[str, ...]:
    """Why nothing may be paid for these settings, each with the field and the cure; empty when they fit."""
    return (*_of_judges(inputs), *_of_baselines(inputs.evaluation))


def _of_judges(inputs: CompileInputs) -> Iterator[str]:
    asked, teacher = inputs.evaluation, inputs.generation.teacher
    if asked.judge.name == RULES:
        if teacher.name != RULES:
            yield "evaluation.judge: the scripted judge reads only a scripted teacher's words; name two models as judges"
        if asked.simulator.name != RULES:
            yield "evaluation.judge: the scripted judge needs the scripted simulator; name two models as judges"
        if asked.second_judge is not None:
            yield "evaluation.secondJudge: beside the scripted judge there is no other; name a model as judge, or remove it"
        return
    if asked.second_judge is None or asked.second_judge.name == RULES:
        yield "evaluation.secondJudge: one model's opinion is not enough; name another model"
        return
    if asked.second_judge == asked.judge:
        yield "evaluation.secondJudge: it is the first judge once more; name another model"
    known = {family(each) for each in (teacher, asked.simulator) if each.name != RULES}
    if known and {family(asked.judge), family(asked.second_judge)} <= known:
        told = " and ".join(sorted(known))
        yield f"evaluation.secondJudge: both judges are of the families of teacher and simulator ({told}); name a model of another"


def _of_baselines(asked: EvaluationSettings) -> Iterator[str]:
    if not asked.baselines:
        return
    if asked.judge.name == RULES:
        yield "evaluation.baselines: the scripted judge cannot read their words; name two models as judges, or remove them"
    if asked.simulator.name == RULES:
        yield "evaluation.baselines: the scripted simulator does not hear what they say; name a model as simulator, or remove them"
    for i, each in enumerate(asked.baselines):
        if each.provider.name == RULES:
            yield f"evaluation.baselines[{i}].provider: a baseline is a model; name one"
