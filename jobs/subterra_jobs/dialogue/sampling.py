"""Who the customer is and what happens: values of the scenario variables, and the path through the procedure.

One value in ten of every open-ended variable is held out by its hash: training never sees it, so an evaluation scenario drawn
from the held-out values shows whether the model copies what it hears or remembers what it was taught.
"""

import hashlib
import random
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from string import ascii_lowercase

from subterra_api.v1alpha1.procedure import Edge, Node, ProcedureSpec, Variable
from subterra_core.procedure.graph import Graph, Path
from subterra_jobs.errors import InvalidInputError

MADE_UP_SHARE = 0.7
"""Share of made-up values for an open variable; the rest comes from its list."""
_TRIES = 1000
_SYLLABLES = (
    "ba", "ka", "lo", "mi", "ren", "tor", "vel", "shi", "nu", "da", "pra", "gen", "fy", "wo", "zar", "que", "jin", "ham",
    "st", "ly", "bor", "tu", "sa", "ne", "gra", "land", "ville", "ton", "che", "pe", "du", "ga", "ri", "ve", "cor", "mon",
    "a", "al", "an", "ar", "au", "av", "el", "en", "er", "es", "ey", "im",
    "in", "is", "ix", "ob", "on", "or", "os", "oro", "ul", "um", "ur", "yo",
)  # fmt: skip


def held_out(variable: str, value: str) -> bool:
    """Whether a value is kept from training: stable over runs, edits and seeds."""
    return hashlib.sha256(f"{variable}={value}".encode()).digest()[0] % 10 == 0


def sample_values(variables: Sequence[Variable], rng: random.Random, *, unseen: bool) -> dict[str, str]:
    """A value for each variable, as the customer writes it; all held out when ``unseen``, none otherwise."""
    return {variable.name: _sample(variable, rng, unseen) for variable in variables}


def sample_path(graph: Graph, rng: random.Random) -> Path:
    """A path by the edges' weights; where facts decide, by how many of their values lead each way."""
    listed = {variable.name: variable.values for variable in graph.spec.variables}
    facts = {name: rng.choice(listed[name]) for name in graph.facts}

    def choose(_: Node, edges: Sequence[Edge]) -> Edge:
        return rng.choices(edges, weights=[edge.weight for edge in edges])[0]

    try:
        return graph.walk(choose, values=facts)
    except ValueError as error:
        raise InvalidInputError(str(error)) from None


def fitting(graph: Graph, path: Path, values: dict[str, str], rng: random.Random) -> dict[str, str]:
    """``values`` with those facts drawn again that would not lead along ``path``: what is true decides where it goes."""
    wrong = {name: allowed for name, allowed in graph.facts_on(path).items() if values[name] not in allowed}
    return values | {name: rng.choice(sorted(allowed)) for name, allowed in wrong.items()}


def context(spec: ProcedureSpec, values: Mapping[str, str]) -> str:
    """What the agent is told about this customer: a line for each variable of visibility context, after the system prompt."""
    known = [variable.name for variable in spec.variables if variable.visibility == "context"]
    return "\n".join(f"{name}: {values[name]}" for name in known)


def system_message(spec: ProcedureSpec, values: Mapping[str, str]) -> str:
    """The whole system message: the prompt that is the same for everybody, then the context."""
    return f"{spec.system_prompt}\n{context(spec, values)}".strip()


def _sample(variable: Variable, rng: random.Random, unseen: bool) -> str:
    draw = {"string": _string, "integer": _integer, "dateRange": _dates}[variable.type]
    text = ""
    for _ in range(_TRIES):
        key, text = draw(variable, rng)
        closed = variable.type == "string" and not variable.open
        if closed or held_out(variable.name, key) == unseen:
            return text
    return text  # a range so small that it has no held-out value


def _string(variable: Variable, rng: random.Random) -> tuple[str, str]:
    made_up = variable.open and rng.random() < MADE_UP_SHARE
    text = _made_up(variable.values, rng) if made_up else rng.choice(variable.values)
    return text, text


def _made_up(values: Sequence[str], rng: random.Random) -> str:
    """A name that is in no list: syllables, two known names spliced, or plain letters; one to three words."""
    return " ".join(_word(values, rng) for _ in range(rng.choice((1, 1, 1, 2, 2, 3))))


def _word(values: Sequence[str], rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.5:
        word = "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 3)))  # one alone may be a word such as "in"
    elif kind < 0.75:
        first, second = (rng.choice(values).split()[0].lower() for _ in range(2))
        word = first[: rng.randint(2, 4)] + second[-rng.randint(2, 4) :]
    else:
        word = "".join(rng.choices(ascii_lowercase, k=rng.randint(3, 9)))
    return word.capitalize()


def _integer(variable: Variable, rng: random.Random) -> tuple[str, str]:
    assert variable.minimum is not None and variable.maximum is not None  # lint guarantees it
    value = rng.randrange(variable.minimum, variable.maximum + 1, variable.step)
    return str(value), rng.choice(variable.formats or ("{value}",)).format(value=value)


def _dates(variable: Variable, rng: random.Random) -> tuple[str, str]:
    assert variable.from_ and variable.to  # lint guarantees it
    first, last = date.fromisoformat(variable.from_), date.fromisoformat(variable.to)
    start = first + timedelta(days=rng.randint(0, (last - first).days))
    end = start + timedelta(days=rng.randint(variable.min_days, variable.max_days))
    text = rng.choice(variable.formats or ("{start:%-d %B} to {end:%-d %B}",)).format(start=start, end=end)
    return f"{start:%m-%d}", text
