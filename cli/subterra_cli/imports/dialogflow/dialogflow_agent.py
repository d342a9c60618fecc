"""Reads an exported Dialogflow CX agent in JSON: a folder, or the zip file as it was exported.

Nothing is unpacked: the files of a zip are read in memory, within bounds, and names that lead out of it are refused, as are links
out of a folder.
"""

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from subterra_cli.errors import CommandError

MAX_FILE, MAX_ALL, _MOST_FILES = 4 * 1024 * 1024, 64 * 1024 * 1024, 20_000
_AGENT = "agent.json"


class DialogflowError(CommandError):
    """The files are no exported agent; the message says which one is wrong and what to do."""


@dataclass
class Flow:
    """A flow with its pages and route groups by their displayed names."""

    data: dict[str, Any]
    pages: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """A part of a training phrase, with the parameter that it fills."""

    text: str
    parameter: str


@dataclass
class Intent:
    """An intent with its training phrases, and the entity types of its parameters."""

    description: str
    phrases: list[tuple[Part, ...]] = field(default_factory=list)
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass
class Agent:
    """All of an agent that matters to a conversation."""

    start: str
    language: str
    description: str = ""
    flows: dict[str, Flow] = field(default_factory=dict)
    intents: dict[str, Intent] = field(default_factory=dict)
    entities: dict[str, list[str]] = field(default_factory=dict)
    """Values of the entity types that list them."""
    webhooks: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_agent(path: Path) -> Agent:
    """The agent in a folder or a zip file. Raises DialogflowError."""
    files = dict(_zipped(path) if path.is_file() else _in_folder(path))
    roots = sorted(
        (PurePosixPath(name).parent for name in files if PurePosixPath(name).name == _AGENT), key=lambda root: len(root.parts)
    )
    if not roots:
        raise DialogflowError(f"{path}: no {_AGENT} in it; export the agent from Dialogflow CX as a JSON package")
    inside = {
        str(PurePosixPath(name).relative_to(roots[0])): name for name in files if PurePosixPath(name).is_relative_to(roots[0])
    }
    return _Reader(path, {name: files[source] for name, source in inside.items()}).read()


def _in_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    if not folder.is_dir():
        raise DialogflowError(f"{folder}: does not exist; name the exported agent's folder or zip file")
    root, size = folder.resolve(), 0
    for count, file in enumerate(sorted(folder.rglob("*.json"))):
        if (
            not file.is_file()
            or root not in file.resolve().parents
            or any(part.startswith(".") for part in file.relative_to(folder).parts)
        ):
            continue
        size += file.stat().st_size
        _check_bounds(str(file), file.stat().st_size, size, count)
        yield file.relative_to(folder).as_posix(), file.read_bytes()


def _zipped(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = 0
            for count, entry in enumerate(archive.infolist()):
                name = PurePosixPath(entry.filename.replace("\\", "/"))
                if name.is_absolute() or ".." in name.parts:
                    raise DialogflowError(f"{path}: {entry.filename!r} leads out of the archive; export the agent again")
                if entry.is_dir() or name.suffix != ".json":
                    continue
                size += entry.file_size
                _check_bounds(f"{path}: {name}", entry.file_size, size, count)
                yield str(name), archive.read(entry)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        fix = "export the agent as a JSON package, which is a zip file, or name its folder"
        raise DialogflowError(f"{path}: cannot be read as a zip file: {error}; {fix}") from None


def _check_bounds(name: str, one: int, total: int, count: int) -> None:
    if one > MAX_FILE:
        raise DialogflowError(f"{name}: has {one:,} bytes, more than the limit of {MAX_FILE:,}; leave it out of the export")
    if total > MAX_ALL or count > _MOST_FILES:
        raise DialogflowError(f"{name}: the agent has more than {MAX_ALL:,} bytes or {_MOST_FILES:,} files; import a part of it")


class _Reader:
    """Reads the files of an agent, named by their paths in it."""

    def __init__(self, path: Path, files: Mapping[str, bytes]) -> None:
        self.path, self.files = path, files

    def read(self) -> Agent:
        data = self._data(_AGENT)
        agent = Agent(
            str(data.get("startFlow") or "Default Start Flow"),
            str(data.get("defaultLanguageCode") or "en"),
            str(data.get("description") or ""),
        )
        for name in sorted(self.files):
            parts = PurePosixPath(name).parts
            if parts[0] == "flows" and len(parts) == 3:
                self._flow(name, agent)
            elif parts[0] == "intents" and len(parts) == 3:
                self._intent(name, agent)
            elif parts[0] == "entityTypes" and len(parts) == 3:
                self._entity(name, agent)
            elif parts[0] == "webhooks" and len(parts) == 2:
                data = self._data(name)
                agent.webhooks[self._named(data, name)] = data
        if agent.start not in agent.flows:
            raise DialogflowError(f"{self.path}: the start flow {agent.start!r} is not among its flows; export the agent again")
        return agent

    def _data(self, name: str) -> dict[str, Any]:
        try:
            data = json.loads(self.files[name])
        except (ValueError, RecursionError) as error:
            raise DialogflowError(f"{self.path}: {name}: is not JSON: {error}; export the agent again") from None
        if not isinstance(data, dict):
            raise DialogflowError(f"{self.path}: {name}: is not a JSON object; export the agent again")
        return data

    def _named(self, data: dict[str, Any], name: str) -> str:
        if not isinstance(data.get("displayName"), str):
            raise DialogflowError(f"{self.path}: {name}: has no displayName; export the agent again")
        return str(data["displayName"])

    def _below(self, folder: PurePosixPath) -> Iterator[tuple[str, dict[str, Any]]]:
        for name in sorted(self.files):
            if PurePosixPath(name).parent == folder:
                data = self._data(name)
                yield self._named(data, name), data

    def _flow(self, name: str, agent: Agent) -> None:
        data, folder = self._data(name), PurePosixPath(name).parent
        pages, groups = dict(self._below(folder / "pages")), dict(self._below(folder / "transitionRouteGroups"))
        agent.flows[self._named(data, name)] = Flow(data, pages, groups)

    def _translated(self, folder: PurePosixPath, language: str) -> dict[str, Any]:
        """The file of the agent's language in a folder, or the first one there."""
        found = [name for name in sorted(self.files) if PurePosixPath(name).parent == folder]
        wanted = str(folder / f"{language}.json")
        return self._data(wanted if wanted in found else found[0]) if found else {}

    def _intent(self, name: str, agent: Agent) -> None:
        data, folder = self._data(name), PurePosixPath(name).parent
        if data.get("isFallback"):
            return
        intent = Intent(str(data.get("description") or ""))
        for parameter in dicts(data.get("parameters")):
            intent.parameters[str(parameter.get("id"))] = str(parameter.get("entityType", ""))
        for phrase in dicts(self._translated(folder / "trainingPhrases", agent.language).get("trainingPhrases")):
            parts = [Part(str(part.get("text", "")), str(part.get("parameterId") or "")) for part in dicts(phrase.get("parts"))]
            intent.phrases.append(tuple(parts))
        agent.intents[self._named(data, name)] = intent

    def _entity(self, name: str, agent: Agent) -> None:
        data, folder = self._data(name), PurePosixPath(name).parent
        if data.get("kind") == "KIND_REGEXP":
            return
        entities = dicts(self._translated(folder / "entities", agent.language).get("entities"))
        agent.entities[self._named(data, name)] = list(
            dict.fromkeys(str(each["value"]).strip()[:200] for each in entities if each.get("value"))
        )


def dicts(data: Any) -> list[dict[str, Any]]:
    """The objects in a list of an agent's file."""
    return [each for each in data if isinstance(each, dict)] if isinstance(data, list) else []
