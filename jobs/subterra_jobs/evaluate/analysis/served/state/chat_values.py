"""Values that the messages of a conversation hold exactly: arguments of tool calls, and what the tools returned. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from subterra_api.unicode_forms import alike
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.template import variables_of
from subterra_core.procedure.tools import ERROR, SUCCESS, tools_by_name

Message = Mapping[str, Any]


class ValueReader:
    """Reads the calls of one procedure's conversations."""

    def __init__(self, spec: ProcedureSpec) -> None:
        self._spec, self._tools = spec, tools_by_name(spec)
        self._listed = {variable.name: {alike(value): value for value in variable.values} for variable in spec.variables}

    def of_calls(self, messages: Sequence[Message]) -> dict[str, str]:
        """Values of variables in calls and results, the latest of each."""
        return dict(self._all(messages))

    def facts(self, messages: Sequence[Message]) -> dict[str, str]:
        """Listed values that tools returned, so that they can decide at a hub; those that changed decide nothing."""
        returned = {name for tool in self._spec.tools for name in (tool.outcome, *tool.results) if name}
        seen = dict[str, set[str]]()
        for name, value in self._all(messages):
            if name in returned:
                seen.setdefault(name, set()).add(alike(value))
        single = ((name, self._listed[name].get(*values)) for name, values in seen.items() if len(values) == 1)
        return {name: value for name, value in single if value is not None}

    def _all(self, messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
        names = dict[str, str]()
        for message in messages:
            for call in message.get("tool_calls") or ():
                names[str(call.get("id"))] = str(call["function"]["name"])
                yield from self._arguments(call["function"])
            if message["role"] == "tool":
                yield from self._results(names.get(str(message.get("tool_call_id")), ""), _object(message.get("content")))

    def _arguments(self, function: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        given = _object(function.get("arguments"))
        for node in (node for node in self._spec.nodes if node.tool == function["name"]):
            for argument in (each for each in node.arguments if each.name in given):
                names = variables_of(argument.value)
                if len(names) == 1 and argument.value.startswith("{{") and argument.value.endswith("}}"):
                    yield names[0], str(given[argument.name])

    def _results(self, name: str, result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        tool = self._tools.get(name)
        if tool is None:
            return
        if tool.outcome:
            yield tool.outcome, str(result.get(ERROR, SUCCESS))
        yield from ((field, str(result[field])) for field in tool.results if field in result)


def _object(content: Any) -> Mapping[str, Any]:
    """A JSON object in a message; empty for anything else."""
    try:
        found = json.loads(content)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
