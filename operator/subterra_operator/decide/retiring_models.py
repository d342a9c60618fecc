"""The condition that a hosted model ends soon. Its message has dates, not days left, so that it is not written every day."""

from subterra_api.v1alpha1.base import Condition
from subterra_api.v1alpha1.compiledagent import CompileSource
from subterra_api.v1alpha1.compilerun import CompileInputs
from subterra_api.v1alpha1.conditions import Reason, Type
from subterra_core.model_retirements import retired_models, retiring_models
from subterra_operator.decide.decision import ConditionBuilder


def models_of(source: CompileSource) -> CompileInputs:
    """Inputs that name the models of an agent's future runs."""
    template = source.template
    return CompileInputs(
        procedure_ref=source.procedure_ref,
        base_model=template.base_model,
        generation=template.generation,
        training=template.training,
        evaluation=template.evaluation,
    )


def retirement_condition(make: ConditionBuilder, inputs: CompileInputs, what_fails: str) -> tuple[Condition, ...]:
    """`ModelRetirement` if a hosted model of `inputs` has retired or will within 60 days, else nothing.

    `what_fails` ends the message.
    """
    today = make.now.date()
    if gone := retired_models(inputs, today):
        return (make(Type.MODEL_RETIREMENT, True, Reason.MODEL_RETIRED, "; ".join((*gone, what_fails))),)
    if soon := retiring_models(inputs, today):
        return (make(Type.MODEL_RETIREMENT, True, Reason.MODEL_RETIRES_SOON, "; ".join((*soon, what_fails))),)
    return ()
