"""Checks of what the agent answers when the customer says something for which the flowchart has no words."""

from collections.abc import Iterator, Sequence

from subterra_api.v1alpha1.procedure import ProcedureSpec, Role, Variable
from subterra_core.procedure.lint.findings import Finding, error, located_otherwise, speech, warning
from subterra_core.procedure.otherwise import UNKNOWN_VALUE, otherwise_texts
from subterra_core.procedure.template import variables_of

_UNKNOWN_VALUE_FIELD = "spec.otherwise.unknownValue"
_SHOWN = 3
"""Values of a variable that a message lists."""


def check_otherwise(spec: ProcedureSpec) -> Iterator[Finding]:
    """Errors for placeholders that have no value when the text is said."""
    for where, field, text in located_otherwise(spec):
        allowed = {UNKNOWN_VALUE} if where == _UNKNOWN_VALUE_FIELD else set()
        for name in variables_of(text):
            if name not in allowed:
                problem = f"{text!r} contains {{{{{name}}}}}, which may be unknown when the agent says this"
                other = f" or write {{{{{UNKNOWN_VALUE}}}}}, which is what the customer named" if allowed else ""
                yield error(where, field, problem, f"remove it{other}")


def check_closed_values(spec: ProcedureSpec) -> Iterator[Finding]:
    """Warnings for closed variables of the customer: the author may not have thought of other values."""
    if spec.otherwise.unknown_value:
        return
    answer = otherwise_texts(spec, "unknownValue")[0]
    spoken = _spoken_variables(spec, "user") & _spoken_variables(spec, "agent")
    for index, variable in enumerate(spec.variables):
        if variable.name in spoken and _is_closed(variable):
            problem = f"is closed: a customer who names a value other than {_listed(variable.values)} hears {answer!r}"
            fix = f"set open: true if any value may come, write your answer in {_UNKNOWN_VALUE_FIELD}, or add a branch for it"
            yield warning(f"variable {variable.name}", f"spec.variables[{index}]", problem, fix)


def _is_closed(variable: Variable) -> bool:
    return variable.type == "string" and bool(variable.values) and not variable.open and variable.visibility == "customer"


def _listed(values: Sequence[str]) -> str:
    """The first values, and how many more there are."""
    rest = len(values) - _SHOWN
    return ", ".join(values[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _spoken_variables(spec: ProcedureSpec, role: Role) -> set[str]:
    return {name for node in spec.nodes if node.role == role for text in speech(node) for name in variables_of(text)}
