"""Findings about a flat procedure in the words of whoever wrote the one with the calls. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from subterra_api.v1alpha1.procedure import Node, ProcedureSpec
from subterra_core.procedure.calls.renaming import node_prefix, variable_prefix
from subterra_core.procedure.lint.findings import Finding

_PLACE = re.compile(r"^spec\.(\w+)\[(\d+)\](.*)$", re.DOTALL)
_FIRST_EDGE = ".next[0]"
LISTS = ("nodes", "variables", "knowledge", "anywhere", "questions", "tools")
"""Lists of a procedure to which a call may add."""


@dataclass(frozen=True)
class Origin:
    """Where an entry of a flat procedure's list was written."""

    field: str
    """Its field in the procedure with the calls; that of the call node where the entry is part of the called procedure."""
    call: Node | None = None
    inner: "Origin | None" = None
    """Where the called procedure has the entry."""
    way_out: str | None = None
    """At an ending of the called procedure: the field of the call's edge that is taken after it."""
    made_of: str | None = None
    """The id of the node that collects variables, where the entry is one of those made of it."""

    def located(self, finding: Finding, rest: str) -> Finding:
        """The finding about the field `rest` of the entry, as the author knows it."""
        if self.made_of is not None:
            what = rest.removeprefix(".") if finding.where == finding.field else f"as {finding.where}"
            return replace(finding, where=f"node {self.made_of}, {what}", field=f"{self.field}.collects")
        if self.call is None or self.inner is None:
            field = self.field + rest
            return replace(finding, where=field if finding.where == finding.field else finding.where, field=field)
        if self.way_out and rest.startswith(_FIRST_EDGE):
            edge = self.call.next[int(self.way_out.rpartition("[")[2].rstrip("]"))]
            where = f"edge {self.call.id} → {edge.to}"
            return replace(finding, where=where, field=self.way_out + rest.removeprefix(_FIRST_EDGE))
        where, problem, fix = map(self._without_prefix, (finding.where, finding.problem, finding.fix))
        inside = self.inner.located(replace(finding, where=where, problem=problem, fix=fix), rest)
        nested = self.inner.inner is not None and "in procedure" in inside.where
        place = inside.where if nested else f"{inside.where} ({inside.field})" if inside.where != inside.field else inside.field
        where = f"node {self.call.id}, in procedure {self.call.procedure}: {place}"
        return replace(inside, where=where, field=f"{self.field}.procedure")

    def _without_prefix(self, text: str) -> str:
        """`text` with the called procedure's own names."""
        assert self.call is not None
        prefixes = {node_prefix(self.call.id), variable_prefix(self.call.id)}
        return re.sub("|".join(rf"\b{re.escape(prefix)}" for prefix in prefixes), "", text)


Origins = Mapping[str, Sequence[Origin]]
"""For each of `LISTS`, the origin of each entry."""


def own_origins(spec: ProcedureSpec) -> dict[str, Sequence[Origin]]:
    """Origins of a procedure as it was written."""
    return {name: [Origin(f"spec.{name}[{index}]") for index in range(len(getattr(spec, name)))] for name in LISTS}


def in_author_words(finding: Finding, origins: Origins) -> Finding:
    """The finding with the field where its author can correct it, and the called procedure's own names and field."""
    place = _PLACE.match(finding.field)
    if place is None or place[1] not in origins or int(place[2]) >= len(origins[place[1]]):
        return finding
    return origins[place[1]][int(place[2])].located(finding, place[3])
