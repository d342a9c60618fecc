"""Updates the file with the list of hosted models from the providers' own lists."""

from collections.abc import Mapping
from datetime import date
from importlib.resources import files
from pathlib import Path

from subterra_api.job_contract.environment import KEY_VARIABLES
from subterra_cli.errors import CommandError
from subterra_core.hosted_models import catalog
from subterra_core.hosted_models.refresh import ListedModel, Refreshed, refresh

SDKS_MISSING = "the providers' SDKs are not installed; install this repository with its extra: pip install '.[generate]'"


def refresh_file(file: str | None, variables: Mapping[str, str], today: date, *, write: bool) -> Refreshed:
    """What the providers with a key say that is new; `write` puts it into the file. Raises CommandError."""
    path = Path(file) if file else Path(str(files(catalog.__package__ or "") / catalog.TABLE_FILE))
    try:
        known = catalog.parse_table(path.read_text("utf-8"))
        result = refresh(known, listed_models(variables), today)
        if write and result.changes:
            path.write_text(catalog.dump_table(result.models), "utf-8")
    except (OSError, ValueError) as error:
        raise CommandError(f"{path}: {error}") from None
    return result


def listed_models(variables: Mapping[str, str]) -> tuple[ListedModel, ...]:
    """What all providers with a key list. Raises CommandError."""
    keys = {provider: variables.get(name, "") for provider, name in KEY_VARIABLES.items()}
    if not any(keys.values()):
        raise CommandError(f"no key is set; set one of {' and '.join(KEY_VARIABLES.values())}, or both")
    try:
        from subterra_jobs.model_lists.fetch import ListError, anthropic_models, openai_models
    except ImportError:
        raise CommandError(SDKS_MISSING) from None
    try:
        own = anthropic_models(keys["anthropic"]) if keys.get("anthropic") else ()
        return (*own, *(openai_models(keys["openai"]) if keys.get("openai") else ()))
    except ListError as error:
        raise CommandError(str(error)) from None
