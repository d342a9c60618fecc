"""The API key of an agent that demands one: from a file, the environment, or the Secret that the agent names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from subterra_cli.cluster import ClusterAccessError
from subterra_cli.errors import CommandError

VARIABLE = "SUBTERRA_API_KEY"
DEFAULT_KEY = "apiKey"
GIVE_IT = f"pass the key with --api-key-file FILE, or in the variable {VARIABLE}"


@dataclass(frozen=True)
class ApiKey:
    """A key, and where it comes from, for messages."""

    value: str
    source: str


def given_key(file: Path | None, environment: Mapping[str, str]) -> ApiKey | None:
    """The key in `file`, else in the environment; `None` if neither is given. Raises CommandError."""
    if file is not None:
        return ApiKey(_content(file), f"{file}")
    if given := environment.get(VARIABLE, "").strip():
        return ApiKey(given, f"the variable {VARIABLE}")
    return None


def agent_key(
    file: Path | None,
    environment: Mapping[str, str],
    secret: Mapping[str, str] | None,
    read_secret: Callable[[str, str], str],
) -> ApiKey | None:
    """The key; `None` if the agent names no ``secret`` and none is given. Raises CommandError, ClusterAccessError.

    ``read_secret`` returns a value of a Secret by name and key.
    """
    if (given := given_key(file, environment)) or secret is None:
        return given
    name, key = secret["name"], secret.get("key", DEFAULT_KEY)
    try:
        return ApiKey(read_secret(name, key), f"Secret {name} (key {key})")
    except ClusterAccessError as error:
        raise ClusterAccessError(f"this agent demands an API key, and {error}; {GIVE_IT}") from None


def refusal(agent: str, key: ApiKey | None) -> str:
    """What to do about an agent that answered 401."""
    if key is None:
        return f"CompiledAgent {agent} demands an API key (401); {GIVE_IT}"
    changed = "if the Secret has changed since, the pods keep the old one until you change spec.serving.restartAt"
    return f"CompiledAgent {agent} refuses the API key of {key.source} (401); {changed}. To try another one, {GIVE_IT}"


def _content(file: Path) -> str:
    try:
        text = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--api-key-file {file} cannot be read: {error}") from None
    if not text:
        raise CommandError(f"--api-key-file {file} is empty; write the key into it")
    return text
