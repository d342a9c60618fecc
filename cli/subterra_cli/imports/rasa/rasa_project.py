"""Reads a Rasa CALM project: flows, and the responses, slots and intents that its other files have.

A folder is read with all YAML files in it. A single file is read alone, with the domain and the training phrases near it. Links
that lead out of the folder are not followed.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subterra_cli.errors import CommandError
from subterra_cli.files.yaml_document import MAX_BYTES, DocumentError, decode, parse

_MOST_FILES = 2000
_SECTIONS = re.compile(rb"^(flows|responses|slots|nlu)[ \t]*:", re.MULTILINE)
_DOMAINS = ("domain.yml", "domain.yaml", "domain")
_NEARBY = 3
"""Folders above a file in which its domain is looked for."""
_ANNOTATION = re.compile(r"\[([^\]]+)\](?:\([^)]*\)|\{[^}]*\})")


class RasaError(CommandError):
    """The files are no Rasa flows that can be read; the message says where and what to do."""


@dataclass(frozen=True)
class Response:
    """What an `utter_…` says: one of its texts. `buttons` are titles with what they send."""

    texts: tuple[str, ...]
    buttons: tuple[tuple[str, str], ...]


@dataclass
class Project:
    """All of a project that matters to a conversation."""

    flows: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    """The file of each flow."""
    responses: dict[str, Response] = field(default_factory=dict)
    slots: dict[str, dict[str, Any]] = field(default_factory=dict)
    intents: dict[str, tuple[str, ...]] = field(default_factory=dict)


def read_project(path: Path, domain: Path | None = None) -> Project:
    """The project in a folder, or the flows of a file with the domain near it. Raises RasaError."""
    project = Project()
    if path.is_dir():
        files = [*_yaml_files(path)]
    else:
        files = [path]
        nearby = domain or _nearby_domain(path)
        for extra in (*([nearby] if nearby else []), *sorted(path.parent.glob("nlu.y*ml"))):
            _read_all(_yaml_files(extra) if extra.is_dir() else [extra], project, flows=extra == path)
    _read_all(files, project, flows=True)
    if domain and path.is_dir():
        _read_all(_yaml_files(domain) if domain.is_dir() else [domain], project, flows=False)
    if not project.flows:
        raise RasaError(f"{path}: no flows in it; a file of Rasa CALM has them below `flows:`")
    return project


def _yaml_files(folder: Path) -> Iterator[Path]:
    root = folder.resolve()
    count = 0
    for file in sorted(folder.rglob("*.y*ml")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if hidden or file.suffix not in (".yml", ".yaml") or not file.is_file() or root not in file.resolve().parents:
            continue
        count += 1
        if count > _MOST_FILES:
            raise RasaError(f"{folder}: has more than {_MOST_FILES:,} YAML files; name the folder with the flows, and --domain")
        yield file


def _nearby_domain(file: Path) -> Path | None:
    folders = [file.resolve().parent, *file.resolve().parents[1 : _NEARBY + 1]]
    return next((folder / name for folder in folders for name in _DOMAINS if (folder / name).exists()), None)


def _read_all(files: Iterable[Path], project: Project, *, flows: bool) -> None:
    for file in files:
        for data in _sections(file):
            if flows:
                _read_flows(data.get("flows"), file, project)
            _read_responses(data.get("responses"), file, project)
            project.slots |= _mapping(data.get("slots"), "slots", file)
            _read_intents(data.get("nlu"), project)


def _sections(file: Path) -> Iterator[dict[str, Any]]:
    """The YAML documents of a file that has something of Rasa's in it."""
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if _SECTIONS.search(content):
            yield from (document.data for document in parse(decode(content)) if isinstance(document.data, dict))
    except OSError as error:
        raise RasaError(f"{file}: cannot be read: {error.strerror}; check the path and its permissions") from None
    except DocumentError as error:
        raise RasaError(f"{file}:{error.line}: {error.finding.problem}; {error.finding.fix}") from None


def _mapping(data: Any, name: str, file: Path) -> dict[str, Any]:
    if data is None:
        return {}
    if not isinstance(data, dict) or not all(isinstance(value, dict | None) for value in data.values()):
        raise RasaError(
            f"{file}: {name} is not a mapping of names to mappings; write `name:` below {name} and its fields below that"
        )
    return {str(key): value or {} for key, value in data.items()}


def _read_flows(data: Any, file: Path, project: Project) -> None:
    for name, flow in _mapping(data, "flows", file).items():
        if name in project.flows:
            raise RasaError(f"{file}: flow {name!r} is in {project.files[name]} too; import one of the folders, or rename it")
        if not isinstance(flow.get("steps"), list):
            raise RasaError(f"{file}: flow {name!r} has no list of steps; add steps")
        project.flows[name], project.files[name] = flow, str(file)


def _read_responses(data: Any, file: Path, project: Project) -> None:
    if data is None:
        return
    if not isinstance(data, dict):
        raise RasaError(f"{file}: responses is not a mapping; write `utter_name:` below responses and `- text:` below that")
    for name, variations in data.items():
        found = [each for each in variations or [] if isinstance(each, dict)]
        texts = sorted((each for each in found if each.get("text")), key=lambda each: bool(each.get("condition")))
        buttons = [button for each in found for button in each.get("buttons") or [] if isinstance(button, dict)]
        project.responses[str(name)] = Response(
            tuple(dict.fromkeys(str(each["text"]) for each in texts)),
            tuple(dict.fromkeys((str(button.get("title", "")), str(button.get("payload", ""))) for button in buttons)),
        )


def _read_intents(data: Any, project: Project) -> None:
    for entry in data if isinstance(data, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("examples"), str) and entry.get("intent"):
            lines = [line.strip().removeprefix("-").strip() for line in entry["examples"].splitlines()]
            said = tuple(_ANNOTATION.sub(r"\1", line) for line in lines if line)
            project.intents[str(entry["intent"])] = (*project.intents.get(str(entry["intent"]), ()), *said)
