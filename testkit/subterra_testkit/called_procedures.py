"""A bank that calls a procedure which finds out who the customer is, for tests of calls."""

from typing import Any

from subterra_api.v1alpha1.procedure import Node, ProcedureSpec
from subterra_core.procedure.calls.called import Unavailable
from subterra_core.procedure.calls.expansion import Expansion, expand
from subterra_testkit.procedures import Json, agent, branch, end, procedure, user

CODE: Json = {"name": "code", "type": "integer", "minimum": 1000, "maximum": 9999}
TIER: Json = {"name": "tier", "visibility": "context", "values": ["gold", "basic"]}


def call(node: str, *to: Json, **more: Any) -> Json:
    return {"id": node, "role": "call", "procedure": "identity", "next": list(to)} | more


def ending(to: str, outcome: str | None = None) -> Json:
    return {"to": to, **({"outcome": outcome} if outcome else {})}


def identity(*more_nodes: Json, **more: Any) -> ProcedureSpec:
    """Asks for a code, and ends at `verified` (success) or `refused` (abandonment)."""
    return procedure(
        agent("ask", "answer", prompt="Ask for the code because of {{reason}}."),
        user("answer", branch("verified", "It is {{code}}."), branch("refused", "I will not say.")),
        end("verified", prompt="Say that {{code}} is right."),
        end("refused", outcome="abandonment"),
        *more_nodes,
        start="ask",
        variables=[CODE, {"name": "reason", "visibility": "hidden", "values": ["a payment", "an address"]}],
        **more,
    )


def bank(*calls: Json, **more: Any) -> ProcedureSpec:
    """Greets, and goes on to the first call; `pay` and `stop` are where it ends."""
    return procedure(agent("hello", calls[0]["id"]), *calls, end("pay"), end("stop", outcome="abandonment"), **more)


def expanded(spec: ProcedureSpec, **called: ProcedureSpec | Unavailable) -> Expansion:
    return expand("bank", spec, called or {"identity": identity()})


def flat(spec: ProcedureSpec, **called: ProcedureSpec | Unavailable) -> ProcedureSpec:
    expansion = expanded(spec, **called)
    assert not expansion.findings, [str(each) for each in expansion.findings]
    return expansion.spec


def node(spec: ProcedureSpec, name: str) -> Node:
    return next(each for each in spec.nodes if each.id == name)


CHECK = call("check", ending("pay", "success"), ending("stop"), inputs=[{"name": "reason", "value": "a payment"}])
