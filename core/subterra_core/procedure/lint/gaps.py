"""Checks that no gap of an imported graph is left: training would teach the agent to say it."""

import re
from collections.abc import Callable, Iterable, Iterator

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.lint.findings import (
    Finding,
    LocatedText,
    error,
    located_conditions,
    located_nodes,
    located_otherwise,
    located_question_texts,
    located_utterances,
    warning,
)

GAP = "GAP: "
"""What an import writes before a text that the imported graph does not have."""
_MARKER = re.compile(r"\bGAP:")
_SHOWN = 60


def check_gaps(spec: ProcedureSpec) -> Iterator[Finding]:
    """A finding for each text that still contains the marker of a gap.

    An error where an import writes gaps: in what is said, in conditions, in calls of tools, and where a variable's description or
    value begins with one. A warning in other texts, where procedures that serve may have had the word all along.
    """
    texts = (("spec.systemPrompt", "spec.systemPrompt", spec.system_prompt), *located_utterances(spec), *located_conditions(spec))
    yield from _gaps((*texts, *_located_calls(spec), *located_question_texts(spec)), error)
    variables = [*_located_variables(spec)]
    yield from _gaps([each for each in variables if each[2].startswith(GAP)], error)
    yield from _gaps([each for each in variables if not each[2].startswith(GAP)], warning)
    yield from _gaps((*located_otherwise(spec), *_located_descriptions(spec)), warning)


def _gaps(texts: Iterable[LocatedText], finding: Callable[[str, str, str, str], Finding]) -> Iterator[Finding]:
    for where, field, text in texts:
        if marker := _MARKER.search(text):
            shown = text[marker.start() :]
            shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN].rstrip()}…"
            yield finding(where, field, f"still contains {shown!r}, a gap left by the import", "replace it with what it asks for")


def _located_calls(spec: ProcedureSpec) -> Iterator[LocatedText]:
    """What tools and their parameters mean, arguments of calls, and values that decide."""
    for index, tool in enumerate(spec.tools):
        where, path = f"tool {tool.name}", f"spec.tools[{index}]"
        yield where, f"{path}.description", tool.description
        for place, parameter in enumerate(tool.parameters):
            yield where, f"{path}.parameters[{place}].description", parameter.description
    for node, where, field in located_nodes(spec):
        for place, argument in enumerate(node.arguments):
            yield where, f"{field}.arguments[{place}].value", argument.value


def _located_variables(spec: ProcedureSpec) -> Iterator[LocatedText]:
    """Descriptions and values of variables."""
    for index, variable in enumerate(spec.variables):
        yield f"variable {variable.name}", f"spec.variables[{index}].description", variable.description
        for place, value in enumerate(variable.values):
            yield f"variable {variable.name}", f"spec.variables[{index}].values[{place}]", value


def _located_descriptions(spec: ProcedureSpec) -> Iterator[LocatedText]:
    """What teachers read besides the flowchart."""
    for index, fact in enumerate(spec.knowledge):
        yield f"fact {fact.id}", f"spec.knowledge[{index}].text", fact.text
    for index, persona in enumerate(spec.personas):
        yield f"persona {persona.name}", f"spec.personas[{index}].description", persona.description
