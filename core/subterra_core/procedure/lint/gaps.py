"""Checks that no gap of an imported graph is left: training would teach the agent to say it."""

import re
from collections.abc import Callable, Iterable, Iterator

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.lint.findings import (
    Finding,
    LocatedText,
    error,
    located_conditions,
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

    An error where an import writes gaps. A warning in other texts, where procedures that serve may have had the word all along.
    """
    texts = (("spec.systemPrompt", "spec.systemPrompt", spec.system_prompt), *located_utterances(spec), *located_conditions(spec))
    yield from _gaps((*texts, *located_question_texts(spec)), error)
    yield from _gaps((*located_otherwise(spec), *_located_descriptions(spec)), warning)


def _gaps(texts: Iterable[LocatedText], finding: Callable[[str, str, str, str], Finding]) -> Iterator[Finding]:
    for where, field, text in texts:
        if marker := _MARKER.search(text):
            shown = text[marker.start() :]
            shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN].rstrip()}…"
            yield finding(where, field, f"still contains {shown!r}, a gap left by the import", "replace it with what it asks for")


def _located_descriptions(spec: ProcedureSpec) -> Iterator[LocatedText]:
    """What teachers read besides the flowchart, and values."""
    for index, fact in enumerate(spec.knowledge):
        yield f"fact {fact.id}", f"spec.knowledge[{index}].text", fact.text
    for index, variable in enumerate(spec.variables):
        yield f"variable {variable.name}", f"spec.variables[{index}].description", variable.description
        for place, value in enumerate(variable.values):
            yield f"variable {variable.name}", f"spec.variables[{index}].values[{place}]", value
    for index, persona in enumerate(spec.personas):
        yield f"persona {persona.name}", f"spec.personas[{index}].description", persona.description
