"""The blind reader for scripted conversations: identifies a branch by rules."""

from collections.abc import Mapping, Sequence

from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import replace_known
from subterra_jobs.dialogue.scripted import example_templates
from subterra_jobs.dialogue.wording_patterns import Pattern, compile_pattern, max_value_length


class RuleReader:
    """Compares an utterance with the examples of every branch."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._max_length = graph, max_value_length(graph.spec)
        self._patterns: dict[str, Pattern] = {}

    def guess(self, hub: str, options: Sequence[str], text: str, said: Mapping[str, str]) -> str:
        """The option that matches best, the first one among equals; empty if none matches.

        `said` has the values that were said before: of two times that were offered, a customer who says one takes that one.
        """
        match_lengths = {option: self._match_length(hub, option, text, said) for option in options}
        best = max(options, key=lambda option: match_lengths[option])
        return best if match_lengths[best] >= 0 else ""

    def _match_length(self, hub: str, option: str, text: str, said: Mapping[str, str]) -> int:
        """The number of literal characters in the best match; -1 if there is no match."""
        templates = (replace_known(template, said) for template in example_templates(self._graph, hub, option))
        return max((known.literal for known in map(self._pattern, templates) if known.values(text) is not None), default=-1)

    def _pattern(self, template: str) -> Pattern:
        if template not in self._patterns:
            self._patterns[template] = compile_pattern(template, self._max_length)
        return self._patterns[template]
