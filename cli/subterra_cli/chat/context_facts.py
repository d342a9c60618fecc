"""Facts about the customer: the variables of visibility ``context``, which the agent reads in its system message. Pure."""

import random
import re
import shlex
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from subterra_api.unicode_forms import composed
from subterra_api.v1alpha1.procedure import ProcedureSpec, Variable
from subterra_cli.errors import CommandError
from subterra_jobs.dialogue.sampling import context_lines, sample_values

SHOWN_VALUES = 10
"""Values of a long list that a message shows."""


class FactError(CommandError):
    """The given facts are not those that the procedure has; the message lists all problems and shows a command that works."""


def parse_facts(options: Sequence[str]) -> dict[str, str]:
    """Facts given as ``name=value``. Raises ValueError with the reason."""
    facts: dict[str, str] = {}
    for option in options:
        name, equals, value = (part.strip() for part in composed(option).partition("="))
        if not (name and equals and value):
            raise ValueError(f"{option!r} is not name=value; write for example plan=Pro")
        if len(value.splitlines()) > 1:
            raise ValueError(f"the value of {name} has several lines, and a fact is one line; join them")
        if name in facts:
            raise ValueError(f"{name} is given twice; keep one")
        facts[name] = value
    return facts


def context_message(spec: ProcedureSpec, facts: Mapping[str, str], command: Sequence[str]) -> str:
    """The system message for ``facts``, as in training. ``command`` is the command line without facts.

    Raises FactError when a fact is missing or unknown.
    """
    known = {variable.name: variable for variable in spec.variables if variable.visibility == "context"}
    missing = [variable for name, variable in known.items() if name not in facts]
    unknown = {name: value for name, value in facts.items() if name not in known}
    if missing or unknown:
        meant = _meant(unknown, known)
        problems = [_unknown(name, meant.get(name), spec) for name in unknown]
        values = {meant.get(name, name): value for name, value in facts.items()}
        raise FactError("\n".join([*problems, *_missing(missing), *_ready_command(known, values, command)]))
    return context_lines(spec, facts)


def unchecked_message(facts: Mapping[str, str]) -> str:
    """The system message for facts of a procedure that is not known."""
    return "\n".join(f"{name}: {value}" for name, value in facts.items())


def untrained_values(spec: ProcedureSpec, facts: Mapping[str, str]) -> list[str]:
    """A warning for each value that no training conversation had."""
    given = [(variable, facts[variable.name]) for variable in spec.variables if variable.name in facts]
    return [
        f"Warning: {variable.name} is {value!r}; training had {allowed_values(variable)}, so the agent may go astray."
        for variable, value in given
        if not _is_trained(variable, value)
    ]


def allowed_values(variable: Variable) -> str:
    """What a value may be, in words."""
    if variable.type == "string":
        more = f", … ({len(variable.values)} in all)" if len(variable.values) > SHOWN_VALUES else ""
        listed = ", ".join(variable.values[:SHOWN_VALUES]) + more
        return f"any value, such as {listed}" if variable.open else f"one of {listed}"
    example = _example(variable)
    if variable.type == "integer":
        steps = f" in steps of {variable.step}" if variable.step != 1 else ""
        written = "" if example.isdecimal() else f", written as {example}"
        return f"a whole number from {variable.minimum} to {variable.maximum}{steps}{written}"
    return f"dates, written as {example}"


def _is_trained(variable: Variable, value: str) -> bool:
    if variable.type == "string":
        return variable.open or value in variable.values
    if variable.type != "integer" or variable.minimum is None or variable.maximum is None:
        return True
    found = re.search(r"-?\d[\d,]*", value)
    number = int(found[0].replace(",", "")) if found else variable.maximum + 1
    in_range = variable.minimum <= number <= variable.maximum and (number - variable.minimum) % variable.step == 0
    return in_range and value in [form.format(value=number) for form in variable.formats or ("{value}",)]


def _example(variable: Variable) -> str:
    """A value as training writes it; the same one each time."""
    return variable.values[0] if variable.values else sample_values([variable], random.Random(0), unseen=False)[variable.name]


def _meant(unknown: Mapping[str, str], known: Mapping[str, Variable]) -> dict[str, str]:
    """The fact that each misspelled name resembles."""
    lower = {name.lower(): name for name in known}
    near = {name: get_close_matches(name.lower(), lower, n=1) for name in unknown}
    return {name: lower[matches[0]] for name, matches in near.items() if matches}


def _unknown(name: str, meant: str | None, spec: ProcedureSpec) -> str:
    if any(variable.name == name for variable in spec.variables):
        return f"--fact {name}: the agent does not read {name} in its system message; say it in the conversation instead."
    hint = f"did you mean {meant}?" if meant else "leave it out."
    return f"--fact {name}: the procedure has no fact of this name; {hint}"


def _missing(missing: Sequence[Variable]) -> list[str]:
    if not missing:
        return []
    width = max(len(variable.name) for variable in missing)
    lines = [f"  {one.name:{width}}  {_sentence(one.description)}Give {allowed_values(one)}." for one in missing]
    return ["The agent has to know these facts about the customer before the conversation:", *lines]


def _sentence(description: str) -> str:
    text = description.strip()
    return f"{text.rstrip('.')}. " if text else ""


def _ready_command(known: Mapping[str, Variable], values: Mapping[str, str], command: Sequence[str]) -> list[str]:
    flags = [part for name, variable in known.items() for part in ("--fact", f"{name}={values.get(name) or _example(variable)}")]
    return ["Run for example:", f"  {shlex.join([*command, *flags])}"]
