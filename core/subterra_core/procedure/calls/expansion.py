"""A procedure with calls as one flat procedure: called nodes stand where the call was, and their endings lead on. Pure.

Nodes that collect variables are replaced before. What reads procedures (lint, counting, planning, evaluation) sees only the flat
one. A procedure with neither is its own expansion.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.calls.author_words import Origins, in_author_words, own_origins
from subterra_core.procedure.calls.call_checks import Call, check_fields, has_calls
from subterra_core.procedure.calls.called import Called, Unavailable
from subterra_core.procedure.calls.collecting import Prepared, without_collecting
from subterra_core.procedure.calls.inlining import Inlining
from subterra_core.procedure.calls.shared_anywhere import remaining_anywhere
from subterra_core.procedure.lint.analyse import analyse
from subterra_core.procedure.lint.findings import Analysis, Finding, error
from subterra_core.procedure.schema_errors import findings_of

MAX_DEPTH = 5
"""Calls within calls."""
MAX_NODES = 500
"""Nodes of a procedure, those of called ones included; the schema has the same limit."""
SHOWN_OF_EACH = 20
"""Errors in the calls of one called procedure that its caller lists: hundreds of calls within calls would multiply them."""


@dataclass(frozen=True)
class Expansion:
    """The flat procedure, or why there is none: then `spec` is the procedure as it was written."""

    spec: ProcedureSpec
    findings: tuple[Finding, ...] = ()
    origins: Origins | None = None
    """`None` for a procedure that is its own expansion."""
    depth: int = 0
    is_incomplete: bool = False
    """Whether called procedures that do not exist are all that is wrong."""

    def in_author_words(self, findings: Sequence[Finding]) -> tuple[Finding, ...]:
        """Findings about the flat procedure as its author knows the places."""
        origins = self.origins
        return tuple(findings) if origins is None else tuple(in_author_words(each, origins) for each in findings)

    def analyse(self) -> Analysis:
        """Lint of the flat procedure; the errors of the calls instead, if there are any."""
        if not self.findings:
            analysis = analyse(self.spec)
            return replace(analysis, findings=self.in_author_words(analysis.findings))
        edges = [len(node.next) for node in self.spec.nodes]
        return Analysis(self.findings, len(edges), sum(edges), sum(1 for each in edges if each > 1), edges.count(0))


def expand(name: str, spec: ProcedureSpec, called: Called) -> Expansion:
    """The expansion of procedure `name`; `called` has all procedures that it calls, over others or at once."""
    return _Expander(called).expand(name, spec)


class _Expander:
    """Expands each called procedure once."""

    def __init__(self, called: Called) -> None:
        self._called = called
        self._done: dict[str, Expansion] = {}
        self._open: list[str] = []

    def expand(self, name: str, spec: ProcedureSpec) -> Expansion:
        """The expansion of one procedure."""
        prepared = without_collecting(spec)
        if prepared.findings:
            return Expansion(spec, prepared.findings)
        if not has_calls(prepared.spec):
            return Expansion(spec) if prepared.spec is spec else _read(spec, prepared.spec, _origins(prepared), 0)
        self._open.append(name)
        try:
            return self._expand(spec, prepared)
        finally:
            self._open.pop()

    def _expand(self, written: ProcedureSpec, prepared: Prepared) -> Expansion:
        spec = prepared.spec
        findings, missing, depth = [in_author_words(each, _origins(prepared)) for each in check_fields(spec)], 0, 1
        calls: dict[str, tuple[Call, Origins]] = {}
        for index, node in enumerate(spec.nodes):
            if node.role != "call" or node.procedure is None:
                continue
            where, field = f"node {node.id}", prepared.origins[index].field
            inner = self._expansion_of(node.procedure)
            if isinstance(inner, Unavailable):
                missing += inner.is_missing
                findings.append(error(where, f"{field}.procedure", f"calls {node.procedure}, which {inner.problem}", inner.fix))
                continue
            first, within = inner.findings[:SHOWN_OF_EACH], f"{where}, in procedure {node.procedure}: "
            missing += len(first) if inner.is_incomplete else 0
            findings += [replace(each, where=f"{within}{_location(each)}", field=f"{field}.procedure") for each in first]
            if not inner.findings:
                call = Call(node, field, inner.spec, remaining_anywhere(inner.spec, spec.anywhere, node.id))
                findings += call.check(spec)
                calls[node.id] = call, inner.origins or own_origins(inner.spec)
            depth = max(depth, inner.depth + 1)
        findings += self._too_much(spec, [call for call, _ in calls.values()], depth)
        if findings:
            return Expansion(written, tuple(findings), depth=depth, is_incomplete=len(findings) == missing)
        inlining = Inlining(prepared, calls)
        if clashes := tuple(inlining.clashes()):
            return Expansion(written, clashes, depth=depth)
        return _read(written, inlining.spec, inlining.origins, depth)

    def _expansion_of(self, name: str) -> Expansion | Unavailable:
        if name in self._open:
            circle = " → ".join([*self._open[self._open.index(name) :], name])
            return Unavailable(f"leads back to itself: {circle}", "remove one of these calls")
        called = self._called.get(name, Unavailable("does not exist", "create it, or correct the name", is_missing=True))
        if isinstance(called, Unavailable):
            return called
        if name not in self._done:
            self._done[name] = self.expand(name, called)
        return self._done[name]

    def _too_much(self, spec: ProcedureSpec, calls: Sequence[Call], depth: int) -> list[Finding]:
        nodes = len(spec.nodes) - len(calls) + sum(len(call.callee.nodes) for call in calls)
        found = []
        if nodes > MAX_NODES:
            problem = f"has {nodes:,} entries with those of called procedures; the limit is {MAX_NODES}"
            found.append(error("spec.nodes", "spec.nodes", problem, "call smaller procedures, or split it into two agents"))
        if depth > MAX_DEPTH:
            problem = f"has calls within calls, {depth} deep; the limit is {MAX_DEPTH}"
            found.append(error("spec.nodes", "spec.nodes", problem, "call some of them at once, not over others"))
        return found


def _location(finding: Finding) -> str:
    """Where in the called procedure, for people."""
    nested = ", in procedure " in finding.where
    return finding.where if nested or finding.where == finding.field else f"{finding.where} ({finding.field})"


def _origins(prepared: Prepared) -> Origins:
    return {**own_origins(prepared.spec), "nodes": prepared.origins}


def _read(written: ProcedureSpec, flat: ProcedureSpec, origins: Origins, depth: int) -> Expansion:
    """The flat procedure as the schema reads it: what a run stores is the same as what was checked."""
    try:
        return Expansion(ProcedureSpec.model_validate(flat.dump()), (), origins, depth)
    except ValidationError as problem:
        return Expansion(written, tuple(in_author_words(each, origins) for each in findings_of(problem)), depth=depth)
