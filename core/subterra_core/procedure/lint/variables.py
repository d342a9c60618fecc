"""Checks of variables and templates, and of what the agent knows when it speaks or decides."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from subterra_api.v1alpha1.procedure import Node, ProcedureSpec, Variable
from subterra_core.procedure.anywhere import anywhere_edges_by_node
from subterra_core.procedure.calls.spoken_language import ENGLISH, guessed_language
from subterra_core.procedure.dependencies import bounds_of, is_day
from subterra_core.procedure.lint.findings import (
    Finding,
    LocatedText,
    did_you_mean,
    error,
    located_arguments,
    located_conditions,
    located_descriptions,
    located_nodes,
    located_otherwise,
    located_question_texts,
    located_questions,
    located_tool_texts,
    located_utterances,
    located_variable_texts,
    speech,
    warning,
)
from subterra_core.procedure.lint.tool_checks import check_results_known
from subterra_core.procedure.template import broken_placeholder, variables_of
from subterra_core.procedure.tools import call_variables, learned_on_edges

_NAME = r"\s*([a-zA-Z][a-zA-Z0-9_]*)\s*"
_OTHER_BRACKETS = re.compile(rf"(?<!\{{)\$?\{{{_NAME}\}}(?!\}})|\[{_NAME}\]|<{_NAME}>|%{_NAME}%")
"""How a variable looks to those who know other templates."""
_DAY_NAME = re.compile(r"%-?[aAbB]")
"""Directives that write a name."""
_FORMAT = {
    "integer": re.compile(r"([^{}]|\{value(:,)?\})*"),
    "dateRange": re.compile(r"([^{}]|\{(start|end)(:[^{}]*%[^{}]*)?\})*"),
    "string": re.compile(r"[^{}]*"),
}
"""Allowed formats by type: no attribute access, so that a procedure cannot reach into the writer."""
_SHOWS_VALUE = {"integer": ("{value",), "dateRange": ("{start", "{end"), "string": ("",)}
_WRITE_WORDS = "write the words themselves"
_OF_OTHER_TYPES = {
    "string": (("minimum", "integer"), ("maximum", "integer"), ("from_", "dateRange"), ("to", "dateRange")),
    "integer": (("values", "string"), ("from_", "dateRange"), ("to", "dateRange")),
    "dateRange": (("values", "string"), ("minimum", "integer"), ("maximum", "integer")),
}
"""Fields that say which other type was meant, where those of the variable's own type are missing."""


def check_variables(spec: ProcedureSpec) -> Iterator[Finding]:
    """Undeclared, unused and incomplete variables."""
    declared, used = {variable.name for variable in spec.variables}, set[str]()
    for name, path, text in (*located_utterances(spec), *located_conditions(spec)):
        used |= set(variables_of(text))
        yield from _misspelt(name, path, text, declared)
    for name, path, text in (*_located_fixed(spec), *located_otherwise(spec)):
        yield from _unreadable(name, path, text)
    for name, path, text in _located_unfilled(spec):
        yield from _never_filled(name, path, text, declared)
    for name, path, text in located_question_texts(spec):
        if not path.endswith(".answer"):  # as an answer has
            yield from _blank(name, path, text)
    used |= {node.fact for node in spec.nodes if node.fact}
    used |= {name for variable in spec.variables for name in bounds_of(variable).values()}
    used |= {name for node in spec.nodes for name in call_variables(spec, node)}
    if names := variables_of(spec.system_prompt):
        problem = f"contains {{{{{names[0]}}}}}, but the system prompt is the same in all conversations"
        fix = "remove it and set the variable's visibility to context: a line with its value then follows the system prompt"
        yield error("spec.systemPrompt", "spec.systemPrompt", problem, fix)
    for index, variable in enumerate(spec.variables):
        where, path = f"variable {variable.name}", f"spec.variables[{index}]"
        if variable.name not in used:
            yield warning(where, path, "is not used by any node", "remove it or use it")
        for field, problem, fix in _incomplete(variable):
            yield error(where, f"{path}{field}", problem, fix)


def _located_fixed(spec: ProcedureSpec) -> Iterator[LocatedText]:
    """Texts whose variables have checks of their own: the system prompt, what tools are called with, and listed values."""
    yield "spec.systemPrompt", "spec.systemPrompt", spec.system_prompt
    yield from located_arguments(spec)
    for index, variable in enumerate(spec.variables):
        for place, value in enumerate(variable.values):
            if not value.strip():
                yield f"variable {variable.name}", f"spec.variables[{index}].values[{place}]", value


def _located_unfilled(spec: ProcedureSpec) -> Iterator[LocatedText]:
    """Texts that are the same in all conversations, and values, as far as they have braces."""
    texts = (*located_descriptions(spec), *located_variable_texts(spec), *_located_asked(spec), *located_tool_texts(spec))
    return ((where, path, text) for where, path, text in texts if "{{" in text or "}}" in text)


def _located_asked(spec: ProcedureSpec) -> Iterator[LocatedText]:
    """What the customer wants to know with each question."""
    return ((where, f"{path}.question", each.question) for each, where, path in located_questions(spec))


def _never_filled(where: str, path: str, text: str, declared: Set[str]) -> Iterator[Finding]:
    """A finding for each placeholder; that of a variable is a warning where only models, which know variables, read the text."""
    if (broken := broken_placeholder(text)) is not None:
        yield error(where, path, f"contains {ascii(broken)[1:-1]}, which nothing fills in", _WRITE_WORDS)
    for name in variables_of(text):
        finding = warning if name in declared and ".values[" not in path else error
        yield finding(where, path, f"contains {{{{{name}}}}}, which nothing fills in", _WRITE_WORDS)


def _misspelt(where: str, path: str, text: str, declared: Set[str]) -> Iterator[Finding]:
    """Variables that are not declared, or are written as in another template language."""
    for unknown in sorted(set(variables_of(text)) - declared):
        fix = did_you_mean(unknown, declared, "add it to spec.variables or correct it")
        yield error(where, path, f"uses {{{{{unknown}}}}}, which is not declared", fix)
    others = {literal[0]: next(filter(None, literal.groups())) for literal in _OTHER_BRACKETS.finditer(text)}
    for literal, name in others.items():
        if name in declared:
            yield warning(where, path, f"says {literal} as it stands", f"write {{{{{name}}}}} for the variable's value")
    yield from _unreadable(where, path, text)


def _unreadable(where: str, path: str, text: str) -> Iterator[Finding]:
    """Errors in a text that would be said with braces, or not at all."""
    if (broken := broken_placeholder(text)) is not None:
        fix = "write {{name}}, with the name of a variable: letters from a to z, digits and _"
        yield error(where, path, f"contains {ascii(broken)[1:-1]}, which stands for no variable", fix)
    yield from _blank(where, path, text)


def _blank(where: str, path: str, text: str) -> Iterator[Finding]:
    if text and not text.strip() and not path.endswith(".prompt"):  # an agent's has a finding of its own
        yield error(where, path, "is blank", "write something, or leave it out")


def check_written_days(spec: ProcedureSpec) -> Iterator[Finding]:
    """Warnings for dates with names of months or weekdays, which are English, in a procedure that is not."""
    named = [
        (index, each)
        for index, each in enumerate(spec.variables)
        if each.type == "dateRange" and (not each.formats or _DAY_NAME.search(" ".join(each.formats)))
    ]
    if named and guessed_language(spec) != ENGLISH:
        for index, variable in named:
            problem = "writes days with English names, and the examples are in another language"
            fix = "set formats with numbers alone, such as '{start:%-d.%-m.%Y}'"
            yield warning(f"variable {variable.name}", f"spec.variables[{index}].formats", problem, fix)


def _incomplete(variable: Variable) -> Iterator[tuple[str, str, str]]:
    """Field, problem and fix of whatever its type lacks."""
    if (lacking := _lacking(variable)) is not None:
        other = _meant(variable)
        yield ("", f"has {other[0]}, but its type is {variable.type}", f"write type: {other[1]}") if other else lacking
    if variable.type == "dateRange" and variable.min_days > variable.max_days:
        yield ".minDays", "has minDays above maxDays", "swap them"
    for index, text in enumerate(variable.formats):
        if not _FORMAT[variable.type].fullmatch(text):
            fix = "use {value} or {value:,} for integers, {start:%-d %B} and {end:%-d %B} for date ranges"
            yield f".formats[{index}]", f"has the unsupported format {text!r}", fix
        elif not any(part in text for part in _SHOWS_VALUE[variable.type]):
            fix = "write {value} where the number stands, or {start:%-d %B} where the day does"
            yield f".formats[{index}]", f"has the format {text!r}, which shows nothing of the value", fix


def _lacking(variable: Variable) -> tuple[str, str, str] | None:
    """Field, problem and fix if its type has not what it needs."""
    if variable.type == "string":
        return None if variable.values else ("", "has no values", "list its values")
    if variable.type == "integer":
        if variable.minimum is None or variable.maximum is None:
            return "", "needs minimum and maximum", "set both, with minimum not above maximum"
        return None if variable.minimum <= variable.maximum else (".minimum", "has its minimum above its maximum", "swap them")
    if not variable.from_ or not variable.to:
        return "", "needs from and to", "set both, with from not after to"
    for field, day in (("from", variable.from_), ("to", variable.to)):
        if not is_day(day):
            return f".{field}", f"has {field}: {day}, which is in no calendar", "write year-month-day, such as 2027-01-31"
    return None if variable.from_ <= variable.to else (".from", "has its first day after its last", "swap from and to")


def _meant(variable: Variable) -> tuple[str, str] | None:
    """A field that only another type has, and that type; `None` if nothing says that one was meant."""
    if variable.type == "dateRange" and (variable.from_ or variable.to):
        return None
    if variable.type == "integer" and not (variable.minimum is None and variable.maximum is None):
        return None
    found = (
        (field.strip("_"), kind) for field, kind in _OF_OTHER_TYPES[variable.type] if getattr(variable, field) not in (None, ())
    )
    return next(found, None)


def check_known_when_used(spec: ProcedureSpec) -> Iterator[Finding]:
    """Values that the agent says or decides by without knowing them: training would teach it to invent them."""
    said = {node.id: _said_on_edges(node) for node in spec.nodes}
    known = {node.id: _joined(said[node.id], learned_on_edges(spec, node)) for node in spec.nodes}
    unknown = _unknown_at_nodes(spec, known)
    yield from check_results_known(spec, unknown)
    spoken = {node.id: _mentioned_in(speech(node)) for node in spec.nodes if node.role == "agent"}
    for variable in spec.variables:
        if variable.visibility in ("context", "result"):
            continue
        for node, where, field in located_nodes(spec):
            if variable.name not in unknown[node.id]:
                continue
            says_it = all(variable.name in names for names in said[node.id])
            if node.fact == variable.name and variable.visibility == "customer" and not says_it:
                problem = f"depends on {variable.name}, which the customer may not have said by then"
                fix = f"let an earlier customer turn say {{{{{variable.name}}}}}, or set its visibility to context"
                yield error(where, f"{field}.fact", problem, fix)
            if variable.name in spoken.get(node.id, ()):
                problem = f"the agent says {{{{{variable.name}}}}}, which may be unknown at this point"
                fix = "let an earlier customer turn say it, or set the variable's visibility to context"
                yield warning(where, field, f"{problem}: the model would learn to invent it", fix)


def _unknown_at_nodes(spec: ProcedureSpec, said: Mapping[str, Sequence[Set[str]]]) -> Mapping[str, Set[str]]:
    """For each node, the variables whose values the customer has not said yet in some conversation that reaches it."""
    nodes = {node.id: node for node in spec.nodes}
    unknown: dict[str, set[str]] = {node: set() for node in nodes}
    unknown[spec.start] = {variable.name for variable in spec.variables}
    waiting, leaving_by_node = dict.fromkeys([spec.start]), anywhere_edges_by_node(spec)
    while waiting:
        node = nodes[next(iter(waiting))]
        del waiting[node.id]
        leaving = leaving_by_node.get(node.id, ())
        ways = [*zip(node.next, said[node.id], strict=True), *((edge, _said_in_all(edge.examples or ("",))) for edge in leaving)]
        for edge, names in ways:
            if more := unknown[node.id] - names - unknown[edge.to]:
                unknown[edge.to] |= more
                waiting[edge.to] = None
    return unknown


def _said_on_edges(node: Node) -> list[Set[str]]:
    """For each edge, the variables whose values the customer always says at `node` on the way along it."""
    if node.role != "user":
        return [frozenset()] * len(node.next)
    otherwise = _said_in_all(node.examples or (node.prompt,))
    return [_said_in_all(edge.examples) if edge.examples else otherwise for edge in node.next]


def _joined(said: Sequence[Set[str]], learned: Sequence[Set[str]]) -> list[Set[str]]:
    return [one | other for one, other in zip(said, learned, strict=True)]


def _said_in_all(texts: Iterable[str]) -> Set[str]:
    return set.intersection(*(set(variables_of(text)) for text in texts))


def _mentioned_in(texts: Iterable[str]) -> Set[str]:
    return {name for text in texts for name in variables_of(text)}
