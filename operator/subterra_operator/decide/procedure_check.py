"""What the check of a procedure finds, and a bounded memory of it: procedures are reconciled more often than they are edited.

A check is a pure function of the spec, and of those of the procedures that it calls. What it finds is small and is kept by the
digest of the specs as they were written, so that another order of nodes, which changes no run, still changes the order of the
messages.
"""

import hashlib
import json
from collections.abc import Mapping
from itertools import islice
from typing import Any

from pydantic import ValidationError

from subterra_api.digest import canonical, procedure_digest
from subterra_api.v1alpha1.base import ApiModel
from subterra_api.v1alpha1.conditions import Reason
from subterra_api.v1alpha1.procedure import ProcedureSpec, ProcedureStatus
from subterra_core.procedure.calls.called import TOO_LARGE, Unavailable, called_names_in, gather
from subterra_core.procedure.calls.expansion import Expansion, expand
from subterra_core.procedure.lint.findings import Analysis
from subterra_core.procedure.schema_errors import findings_of
from subterra_operator.decide.decision import truncate
from subterra_operator.snapshot import Observed

MAX_SCHEMA_ERRORS = 10
"""Schema errors in one condition; the others appear once these are fixed."""
MAX_WARNINGS = 20
MEMORY_BYTES = 8 * 1024 * 1024
"""Size of what is remembered: about ten thousand procedures without warnings."""


class ProcedureCheck(ApiModel):
    """What a check found."""

    reason: Reason
    errors: str = ""
    """All errors with their fixes; empty if the procedure can be compiled."""
    summary: str = ""
    """Counts, for people."""
    counts: ProcedureStatus = ProcedureStatus()
    """The status fields that depend on the spec alone."""


def check_request(spec: Mapping[str, Any], called: Mapping[str, Observed], name: str) -> bytes:
    """What the check of procedure `name` depends on, in JSON: its spec; with calls, the called procedures' specs as well."""
    if not called_names_in(spec):
        return canonical(spec)
    return canonical({"name": name, "spec": spec, "called": {each: obj["spec"] for each, obj in called.items()}})


def check_text(text: bytes) -> ProcedureCheck:
    """The check of a `check_request`: within a second of processor time, whatever it holds."""
    request = json.loads(text)
    name, content, called = (request["name"], request["spec"], request["called"]) if "called" in request else ("", request, {})
    try:
        spec = ProcedureSpec.model_validate(content)
    except ValidationError as error:
        return ProcedureCheck(reason=Reason.INVALID_PROCEDURE, errors=describe_errors(error))
    expansion = _expansion(name, spec, called)
    analysis = expansion.analyse()
    if analysis.too_large:
        return ProcedureCheck(reason=Reason.TOO_LARGE, errors=str(analysis.errors[0]), counts=_counts(analysis))
    digest = None if expansion.findings else procedure_digest(expansion.spec)
    counts = _counts(analysis).model_copy(update={"digest": digest})
    errors = truncate("; ".join(str(finding) for finding in analysis.errors))
    wrong = Reason.PROCEDURE_NOT_FOUND if expansion.is_incomplete else Reason.INVALID_PROCEDURE
    reason = wrong if errors else Reason.VALID
    summary = f"{analysis.nodes} nodes, {analysis.hubs} hubs, {analysis.path_count} paths"
    return ProcedureCheck(reason=reason, errors=errors, summary=summary, counts=counts)


def flat_procedure(spec: Mapping[str, Any], called: Mapping[str, Observed], name: str) -> ProcedureSpec:
    """The procedure `name` with the called ones in it. Expects one whose check found no errors."""
    return _expansion(name, ProcedureSpec.model_validate(spec), {each: obj["spec"] for each, obj in called.items()}).spec


def _expansion(name: str, spec: ProcedureSpec, called: Mapping[str, Any]) -> Expansion:
    def find(callee: str) -> ProcedureSpec | Unavailable:
        if callee not in called:
            return Unavailable("does not exist in this namespace", "create it, or correct the name", is_missing=True)
        if called[callee] is None:
            return TOO_LARGE
        try:
            return ProcedureSpec.model_validate(called[callee])
        except ValidationError as error:
            return Unavailable(f"has errors itself: {next(findings_of(error))}", "correct them there")

    return expand(name, spec, gather(spec, find))


def _counts(analysis: Analysis) -> ProcedureStatus:
    counts = ProcedureStatus(
        nodes=analysis.nodes,
        edges=analysis.edges,
        hubs=analysis.hubs,
        terminals=analysis.terminals,
        warnings=tuple(truncate(str(finding)) for finding in analysis.warnings[:MAX_WARNINGS]),
    )
    if analysis.errors:
        return counts
    paths = {"paths": analysis.path_count, "min_turns": analysis.min_turns, "max_turns": analysis.max_turns}
    return counts.model_copy(update=paths)


def describe_errors(error: ValidationError) -> str:
    """The errors of a spec that the API server accepted, with their fixes."""
    return "; ".join(str(finding) for finding in islice(findings_of(error), MAX_SCHEMA_ERRORS))


class CheckMemory:
    """Checks by the digest of their text. The least recently used are forgotten first."""

    def __init__(self, limit: int = MEMORY_BYTES) -> None:
        self._limit, self._size = limit, 0
        self._results: dict[bytes, bytes] = {}

    def __contains__(self, text: bytes) -> bool:
        return _key(text) in self._results

    def get(self, text: bytes) -> ProcedureCheck:
        """What is remembered about a `check_request`; checks it now if there is nothing."""
        key = _key(text)
        if key not in self._results:
            self.put(text, check_text(text))
        self._results[key] = packed = self._results.pop(key)
        return ProcedureCheck.model_validate_json(packed)

    def put(self, text: bytes, check: ProcedureCheck) -> None:
        """Remembers a check; forgets others if there is no room."""
        key, packed = _key(text), check.model_dump_json(by_alias=True, exclude_none=True).encode()
        self._size += len(packed) - len(self._results.pop(key, b""))
        self._results[key] = packed
        while self._size > self._limit and len(self._results) > 1:
            self._size -= len(self._results.pop(next(iter(self._results))))


def _key(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


MEMORY = CheckMemory()
"""Of this process. The controller has new procedures checked elsewhere, so that decisions find them here."""


def checked(spec: Mapping[str, Any], called: Mapping[str, Observed], name: str) -> ProcedureCheck:
    """The check of procedure `name`, which calls others if there are any in `called`."""
    return MEMORY.get(check_request(spec, called, name))
