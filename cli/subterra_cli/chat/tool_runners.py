"""Who runs the tools that an agent calls in `subterra chat`: functions of a Python file, an HTTP endpoint, or the person."""

import json
import runpy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.errors import CommandError
from subterra_core.procedure.tools import ERROR

ToolRunner = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Returns the result of a call by its name and arguments."""
TIMEOUT_SECONDS = 30.0
_LISTED = 5


def tool_runner(spec: ProcedureSpec, source: str | None, ask: Callable[[str], str | None] | None) -> ToolRunner:
    """What runs the procedure's tools: `source` is a file or a URL; without it, `ask` puts the call to the person.

    Raises CommandError when nobody can run them.
    """
    if source is None:
        if ask is None:
            raise CommandError(
                "The agent calls tools, and nobody is there to say what they return: pass --tools FILE.py or --tools URL"
            )
        return _person(ask)
    if source.startswith(("http://", "https://")):
        return _endpoint(source)
    return _functions(Path(source), [tool.name for tool in spec.tools])


def _functions(file: Path, names: Sequence[str]) -> ToolRunner:
    try:
        content = runpy.run_path(str(file))
    except OSError as error:
        raise CommandError(f"--tools {file}: cannot be read ({error.strerror or error})") from None
    except Exception as error:
        raise CommandError(f"--tools {file}: {type(error).__name__}: {error}; correct the file") from None
    missing = [name for name in names if not callable(content.get(python_name(name)))]
    if missing:
        listed = ", ".join(f"{python_name(name)}(…)" for name in missing[:_LISTED])
        raise CommandError(f"--tools {file}: has no function for {', '.join(missing[:_LISTED])}; define {listed}")

    def run(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        function = content.get(python_name(name))
        if name not in names or function is None:
            return {ERROR: f"unknown tool {name}"}
        try:
            return _as_object(function(**arguments))
        except Exception as error:
            return {ERROR: f"{type(error).__name__}: {error}"}

    return run


def python_name(tool: str) -> str:
    """The name of the function that stands for a tool: hyphens become underscores."""
    return tool.replace("-", "_")


def _endpoint(url: str) -> ToolRunner:
    def run(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            response = httpx.post(url, json={"name": name, "arguments": arguments}, timeout=TIMEOUT_SECONDS)
        except httpx.TimeoutException:
            return {ERROR: "timeout"}
        except httpx.HTTPError as error:
            raise CommandError(f"--tools {url}: {error or type(error).__name__}; start the program that runs the tools") from None
        if response.is_error:
            return {ERROR: f"the endpoint answered {response.status_code}"}
        try:
            return _as_object(response.json())
        except ValueError:
            raise CommandError(f"--tools {url}: the answer to {name} is not JSON; return a JSON object") from None

    return run


def _person(ask: Callable[[str], str | None]) -> ToolRunner:
    def run(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        question = f"The agent calls {name} {json.dumps(arguments, ensure_ascii=False)}. Result as a JSON object: "
        while True:
            given = ask(question)
            if given is None:
                raise CommandError("The call has no result, so the conversation cannot go on.")
            try:
                content = json.loads(given)
            except ValueError:
                content = None
            if isinstance(content, dict):
                return content
            question = 'Please write an object such as {"status": "sent"}, or {"error": "timeout"}: '

    return run


def _as_object(value: Any) -> dict[str, Any]:
    content = dict(value) if isinstance(value, Mapping) else {"result": value}
    json.dumps(content)
    return content
