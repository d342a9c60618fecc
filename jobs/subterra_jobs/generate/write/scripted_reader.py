"""The blind reader for scripted words: finds the branch whose wording was said, by rules."""

from collections.abc import Sequence

from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.scripted import wordings
from subterra_jobs.dialogue.wording_patterns import Pattern, longest_value, pattern


class RuleReader:
    """Knows the wordings of every branch, and nothing of what is meant."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._limit = graph, longest_value(graph.spec)
        self._known: dict[tuple[str, str], list[Pattern]] = {}

    def guess(self, hub: str, options: Sequence[str], text: str) -> str:
        """The option with the surest match; of several the first, and none is an empty guess."""
        sure = {option: self._match(hub, option, text) for option in options}
        best = max(options, key=lambda option: sure[option])
        return best if sure[best] >= 0 else ""

    def _match(self, hub: str, option: str, text: str) -> int:
        """Fixed characters of the surest match; -1 for none."""
        if (hub, option) not in self._known:
            self._known[hub, option] = [pattern(each, self._limit) for each in wordings(self._graph, hub, option)]
        return max((each.literal for each in self._known[hub, option] if each.regex.fullmatch(text)), default=-1)
