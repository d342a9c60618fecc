"""Checks that no gap of an imported graph is left: training would teach the agent to say it."""

import re
from collections.abc import Callable, Iterable, Iterator

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.lint.findings import (
    Finding,
    LocatedText,
    error,
    located_arguments,
    located_conditions,
    located_descriptions,
    located_otherwise,
    located_question_texts,
    located_tool_texts,
    located_utterances,
    located_variable_texts,
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
    yield from _gaps((*texts, *located_tool_texts(spec), *located_arguments(spec), *located_question_texts(spec)), error)
    variables = [*located_variable_texts(spec)]
    yield from _gaps([each for each in variables if each[2].startswith(GAP)], error)
    yield from _gaps([each for each in variables if not each[2].startswith(GAP)], warning)
    yield from _gaps((*located_otherwise(spec), *located_descriptions(spec)), warning)


def _gaps(texts: Iterable[LocatedText], finding: Callable[[str, str, str, str], Finding]) -> Iterator[Finding]:
    for where, field, text in texts:
        if marker := _MARKER.search(text):
            shown = text[marker.start() :]
            shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN].rstrip()}…"
            yield finding(where, field, f"still contains {shown!r}, a gap left by the import", "replace it with what it asks for")
