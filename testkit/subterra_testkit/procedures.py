"""Small procedures for tests, with good defaults."""

from typing import Any

from subterra_api.v1alpha1.procedure import ProcedureSpec

Json = dict[str, Any]
PLAN: Json = {"name": "plan", "visibility": "context", "values": ["Free", "Pro", "Business"]}


def procedure(*nodes: Json, start: str = "hello", **more: Any) -> ProcedureSpec:
    return ProcedureSpec.model_validate({"systemPrompt": "You help.", "start": start, "nodes": nodes, **more})


def agent(node: str, *to: str | Json, **more: Any) -> Json:
    return {"id": node, "role": "agent", "prompt": "Say something.", "next": _edges(to)} | more


def user(node: str, *to: str | Json, **more: Any) -> Json:
    return {"id": node, "role": "user", "next": _edges(to)} | more


def end(node: str = "bye", **more: Any) -> Json:
    return {"id": node, "role": "agent", "prompt": "Say goodbye.", "outcome": "success"} | more


def fact_hub(node: str, *to: Json, fact: str = "plan", **more: Any) -> Json:
    """An agent's hub that ``fact`` decides."""
    return agent(node, *to, decidedBy="fact", fact=fact, **more)


def way(to: str, *values: str, **more: Any) -> Json:
    """An edge of a fact hub; without values it is for the rest."""
    return {"to": to, **({"values": list(values)} if values else {}), **more}


def after(to: str, hub: str, *took: str, when: str | None = None) -> Json:
    """An edge that is open only after ``hub`` took one of ``took``."""
    return {"to": to, "when": when or f"The customer wants {to}.", "guards": [{"hub": hub, "took": list(took)}]}


def branch(to: str, *examples: str) -> Json:
    """An edge that a customer takes with the words of ``examples``."""
    return {"to": to, "when": f"The customer means {to}.", "examples": list(examples)}


def shop(*branches: Json, **more: Any) -> ProcedureSpec:
    """A procedure with one hub, ``ask``, whose branches each lead to an ending."""
    ends = [end(each["to"], examples=["Bye."]) for each in branches]
    return procedure(agent("hello", "ask", examples=["What do you want?"]), user("ask", *branches), *ends, **more)


def alike() -> ProcedureSpec:
    """Two branches that are worded in the same way; no rule of lint sees it, since the variables' names differ."""
    names = [{"name": name, "values": ["tea", "coffee"]} for name in ("wanted", "unwanted")]
    return shop(branch("sell", "It is about {{wanted}}."), branch("refund", "It is about {{unwanted}}."), variables=names)


def _edges(targets: tuple[str | Json, ...]) -> list[Json]:
    return [{"to": each, "when": f"The customer wants {each}."} if isinstance(each, str) else each for each in targets]
