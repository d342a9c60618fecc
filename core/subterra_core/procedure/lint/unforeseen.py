"""Checks of what the agent answers when the customer says something for which the flowchart has no words."""

import re
from collections.abc import Iterator, Sequence

from subterra_api.v1alpha1.procedure import ProcedureSpec, Role, Variable
from subterra_core.procedure.anywhere import example_words
from subterra_core.procedure.lint.findings import (
    Finding,
    did_you_mean,
    error,
    located_anywhere,
    located_edges,
    located_nodes,
    located_otherwise,
    located_question_texts,
    located_questions,
    speech,
    warning,
)
from subterra_core.procedure.otherwise import UNKNOWN_VALUE, otherwise_texts, question_name
from subterra_core.procedure.template import variables_of

_PLACEHOLDER = re.compile(r"\{\{[^{}]*\}\}|\{[^{}]*\}")
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


def check_questions(spec: ProcedureSpec) -> Iterator[Finding]:
    """Errors in names, exceptions, answers and examples of the questions that the customer may ask in between."""
    yield from _check_names(spec)
    yield from _check_question_exceptions(spec)
    for each, where, path in located_questions(spec):
        if not each.answer.strip():
            yield error(where, f"{path}.answer", "the answer is empty", "write what the agent says, or remove the question")
    for where, field, text in located_question_texts(spec):
        for placeholder in dict.fromkeys(_PLACEHOLDER.findall(text)):
            problem = f"{text!r} contains {placeholder}, which nothing fills in"
            yield error(where, field, problem, "write the words themselves: questions are the same for every customer")
    yield from _check_question_examples(spec)


def _check_names(spec: ProcedureSpec) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for each, where, path in located_questions(spec):
        name = question_name(each)
        if not name:
            yield error(f"question {each.question!r}", path, "has no words that could name it", "give it an id")
        elif (other := first.setdefault(name, path)) != path:
            problem = f"{other} is called {name} too" + ("" if each.id else ", by its first words")
            yield error(where, f"{path}.id", problem, "give each question an id of its own")


def _check_question_exceptions(spec: ProcedureSpec) -> Iterator[Finding]:
    nodes = {node.id: node for node in spec.nodes}
    askable = {node.id for node in spec.nodes if node.role == "user"}
    for each, where, path in located_questions(spec):
        for index, name in enumerate(each.except_):
            field = f"{path}.except[{index}]"
            if name not in nodes:
                fix = did_you_mean(name, nodes, "correct it, or remove it from except")
                yield error(where, field, f"there is no node {name!r}", fix)
            elif nodes[name].role != "user":
                problem = f"excepts {name}, where the customer does not speak: nobody asks anything there"
                yield error(where, field, problem, "name the customer's node that follows, or remove it from except")
        if askable and askable <= set(each.except_):
            yield error(where, f"{path}.except", "may be asked at no node of the customer", "take a node from except")


def _check_question_examples(spec: ProcedureSpec) -> Iterator[Finding]:
    """Errors for words that are also those of a branch, of a node, or of another question: they could mean either."""
    known: dict[tuple[str, ...], tuple[str, str]] = {}
    for node, where, field in located_nodes(spec):
        if node.role == "user":
            known |= dict.fromkeys(map(example_words, node.examples), (where, field))
            for edge, name, path in located_edges(node, field):
                known |= dict.fromkeys(map(example_words, edge.examples), (name, path))
    for anywhere, name, path in located_anywhere(spec):
        known |= dict.fromkeys(map(example_words, anywhere.examples), (name, path))
    for each, where, path in located_questions(spec):
        for index, text in enumerate(each.examples):
            other, place = known.setdefault(example_words(text), (where, path))
            if place != path:
                problem = f"{text!r} is also an example of {other}: whoever says it could mean either"
                yield error(where, f"{path}.examples[{index}]", problem, "keep it in one of the two places")


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
