"""What `subterra sample` writes: settings from the options and an agent's manifest, refused before anything is paid."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from pydantic import ValidationError

from subterra_api.job_contract.defaults import generation_of
from subterra_api.job_contract.environment import KEY_VARIABLES
from subterra_api.job_contract.messages import Generation
from subterra_api.v1alpha1.compilerun import GenerationSettings, Provider
from subterra_cli.errors import CommandError
from subterra_cli.files.load_procedure import is_file
from subterra_cli.files.manifests import read_compile, read_prices
from subterra_core.hosted_models.catalog import base_model_named
from subterra_core.model_retirements import retirement_of
from subterra_core.pricing import TokenPrice, UnknownModelError, price_of
from subterra_core.procedure.schema_errors import findings_of
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.llm.account import Account, resolve_account
from subterra_jobs.stage import environment

TEACHER = "--teacher"
Read = TypeVar("Read")
_MOST_USD = Decimal(1_000_000)


@dataclass(frozen=True)
class SampleOptions:
    """The options as they were typed."""

    teacher: str | None
    base_url: str | None
    seed: int | None
    max_usd: str
    prices: str | None
    agent: str | None


@dataclass(frozen=True)
class SampleSettings:
    """Checked settings. `account` is `None` for the scripted teacher."""

    generation: Generation
    account: Account | None
    max_usd: Decimal


def read_settings(options: SampleOptions, procedure: str, *, pays: bool) -> SampleSettings:
    """The settings of the compile, from `--agent` and the other options; without `pays` no account is looked up.

    Raises CommandError with everything that stands against the first call.
    """
    problems: list[str] = []
    max_usd = parse_usd(options.max_usd)
    if max_usd is None:
        problems.append(f"--max-usd: {options.max_usd} is not an amount of US dollars above 0; write one such as 0.50")
    generation = _tried(problems, lambda: _generation(options, procedure))
    account = None
    if pays and generation is not None and generation.teacher.name != "scripted":
        account = _tried(problems, lambda: _account(options, generation.teacher))
    if problems or generation is None or max_usd is None:
        raise CommandError("\n".join(problems))
    return SampleSettings(generation, account, max_usd)


def _tried(problems: list[str], read: Callable[[], Read]) -> Read | None:
    """What `read` returns; `None` if it fails, with its message among `problems`."""
    try:
        return read()
    except CommandError as error:
        problems.append(str(error))
        return None


def _generation(options: SampleOptions, procedure: str) -> Generation:
    """The compile's generation settings: those of `--agent`, else the defaults."""
    settings, kind = GenerationSettings(), None
    if options.agent is not None:
        if not is_file(procedure):
            raise CommandError(f"--agent: it is read with the procedure's file; pass the file of {procedure} instead of its name")
        inputs = read_compile(list(dict.fromkeys((procedure, options.agent))), recompile=False).inputs
        settings, kind = inputs.generation, inputs.base_model.kind
    changed: dict[str, Any] = {"teacher": parse_teacher(options, settings.teacher)}
    changed |= {} if options.seed is None else {"seeds": (options.seed,)}
    settings = settings.model_copy(update=changed)
    return generation_of(settings, kind or ("bundled" if settings.teacher.name == "scripted" else "external"))


def _account(options: SampleOptions, provider: Provider) -> Account:
    """The account that pays for `provider`."""
    try:
        stage = environment.StageEnvironment.parse(os.environ)
    except InvalidInputError as error:
        raise CommandError(str(error)) from None
    prices = {**stage.prices, **(read_prices(options.prices) if options.prices else {})}
    field = "generation.teacher" if options.teacher is None else TEACHER
    if problems := _problems(provider, field, prices, stage):
        raise CommandError("\n".join(problems))
    endpoints = (provider.base_url,) if provider.base_url else ()
    try:
        return resolve_account(provider, field, replace(stage, prices=prices, endpoints=endpoints))
    except InvalidInputError as error:
        raise CommandError(str(error)) from None


def parse_teacher(options: SampleOptions, default: Provider) -> Provider:
    """The teacher of the options; `default` if they name none. Raises CommandError."""
    if options.teacher is None:
        if options.base_url is not None:
            raise CommandError(f"--base-url: it needs the model's name too; add {TEACHER} openai:MODEL")
        return default
    name, colon, model = options.teacher.partition(":")
    if name not in ("scripted", *KEY_VARIABLES) or (name == "scripted") == bool(colon) or (colon and not model):
        raise CommandError(f"{TEACHER}: {options.teacher} names no teacher; use scripted, anthropic:MODEL or openai:MODEL")
    if options.base_url is not None and name != "openai":
        raise CommandError(f"--base-url: it is for openai:MODEL only; remove it, or write {TEACHER} openai:{model or 'MODEL'}")
    if options.base_url is not None and not options.base_url.startswith(("http://", "https://")):
        raise CommandError(f"--base-url: {options.base_url} is not a URL; write one such as http://localhost:8000/v1")
    try:
        return Provider.model_validate({"name": name, "model": model or None, "baseURL": options.base_url})
    except ValidationError as error:
        raise CommandError("\n".join(f"{TEACHER}: {finding}" for finding in findings_of(error))) from None


def parse_usd(text: str) -> Decimal | None:
    """An amount above 0; `None` for anything else."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and 0 < amount <= _MOST_USD else None


def _problems(provider: Provider, field: str, prices: Mapping[str, TokenPrice], stage: environment.StageEnvironment) -> list[str]:
    """Reasons to make no call, each with its field and fix."""
    model, problems = provider.model or "", list[str]()
    known = None if provider.base_url else base_model_named(model)
    if known is not None and known.family != provider.name:
        problems.append(f"{field}: {model} is a model of {known.family}; write {known.family}:{model}")
    elif (retired := retirement_of(provider, stage.today)) is not None and retired.is_over:
        problems.append(f"{field}: {retired.message}")
    free = False
    try:
        free = not price_of(model, prices).costs_money
    except UnknownModelError as error:
        problems.append(f"{field}: {error}; here, pass it with --prices FILE")
    if not stage.keys.get(provider.name) and not free:
        problems.append(f"{field}: {provider.name} needs a key; set {KEY_VARIABLES[provider.name]}")
    return problems
