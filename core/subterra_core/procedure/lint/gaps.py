"""Checks that no gap of an imported graph is left: training would teach the agent to say it."""

import re
from collections.abc import Iterator

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.lint.findings import Finding, error, located_conditions, located_utterances

GAP = "GAP: "
"""What an import writes before a text that the imported graph does not have."""
_MARKER = re.compile(r"\bGAP:")
_SHOWN = 60


def check_gaps(spec: ProcedureSpec) -> Iterator[Finding]:
    """An error for each text that still contains the marker of a gap."""
    texts = (("spec.systemPrompt", "spec.systemPrompt", spec.system_prompt), *located_utterances(spec), *located_conditions(spec))
    for where, field, text in texts:
        if marker := _MARKER.search(text):
            shown = text[marker.start() :]
            shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN].rstrip()}…"
            yield error(where, field, f"still contains {shown!r}, a gap left by the import", "replace it with what it asks for")
