"""Samples scenarios: values of the procedure's variables, and a path through it.

One value in ten of every open-ended variable is held out by its hash: training never sees it, so an evaluation scenario with
held-out values shows whether the model copies the customer's words or repeats memorized ones.

*Rich* values are for scripted customers, who cost nothing: places, names and products of the real world, numbers in words and dates
in other forms than the author's. Models that write or play customers get *real* values where the procedure has a `style`: the same
places, names and products, in the author's forms. Without a `style` they get *plain* ones: what was paid for stays as it is.

A value that `min`, `max` or `after` bounds is drawn after the one that bounds it.
"""

import hashlib
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Literal

from subterra_api.v1alpha1.procedure import Edge, Node, ProcedureSpec, Variable
from subterra_core.procedure.dependencies import bounds_of, draw_order, shows_end
from subterra_core.procedure.graph import Graph, Path
from subterra_jobs.dialogue.phrasing.language import speaks_english
from subterra_jobs.dialogue.phrasing.numbers_and_dates import LARGEST_SPELLED, other_form, spelled, usable_formats
from subterra_jobs.dialogue.phrasing.value_lists import list_for, noun_form_of, without_article
from subterra_jobs.errors import InvalidInputError

MADE_UP_SHARE = 0.7
"""Share of made-up values for an open variable; the rest comes from its list."""
LISTED_SHARE, REAL_SHARE = 0.3, 0.6
"""Rich values of an open variable: shares of the author's and of the real ones; the rest is made up, as is all that no list has."""
SPELLED_SHARE = 0.12
"""Rich values: share of small numbers in words."""
OTHER_FORM_SHARE = 0.15
"""Rich values: share of dates in a form that is not the author's."""
_DATE_FORMATS = ("{start:%-d %B} to {end:%-d %B}",)
_TRIES = 1000
_SYLLABLE_TEXT = """
    ba ka lo mi ren tor vel shi nu da pra gen fy wo zar que jin ham st ly bor tu sa ne gra land ville ton che pe du ga ri ve cor mon
    a al an ar au av el en er es ey im in is ix ob on or os oro ul um ur yo
"""
_SYLLABLES = _SYLLABLE_TEXT.split()
_PART = re.compile(r"[A-Za-z]+|[0-9]+")
_YEAR = re.compile(r"(?:19|20)[0-9]{2}")
_LONGEST_PREFIX = 2
"""Letters of a code; more are a word."""
_FEWEST_VARYING = 3
"""Letters and digits that differ between codes: fewer make too few codes for both sides of the split."""


def held_out(variable: str, value: str) -> bool:
    """True if a value is excluded from training: stable over runs, edits and seeds."""
    return hashlib.sha256(f"{variable}={value}".encode()).digest()[0] % 10 == 0


ValueKind = Literal["plain", "real", "rich", "foreign"]
"""Who the values are for: models, models under a procedure's `style`, scripted customers, those who do not speak English."""


def kind_for_script(spec: ProcedureSpec) -> ValueKind:
    """The kind of values that scripted customers say: numbers are written in words in English only."""
    return "rich" if speaks_english(spec) else "foreign"


def kind_for_models(spec: ProcedureSpec) -> ValueKind:
    """The kind of values that models write or play customers with."""
    return "plain" if spec.style is None else "real"


def sample_values(
    variables: Sequence[Variable], rng: random.Random, *, unseen: bool, rich: bool = False, kind: ValueKind = "plain"
) -> dict[str, str]:
    """A value for each variable, as the customer writes it; all held out if `unseen`, none otherwise.

    `rich` stands for the kind of that name. A bound by a variable that is not among them is not kept.
    """
    return sample_each(variables, lambda _: rng, unseen=unseen, kind="rich" if rich else kind)


def sample_each(
    variables: Sequence[Variable], rng_of: Callable[[str], random.Random], *, unseen: bool, kind: ValueKind
) -> dict[str, str]:
    """The same with a random generator of its own for each variable, by its name."""
    drawn: dict[str, _Drawn] = {}
    for variable in draw_order(variables):
        bounds = {field: drawn[name].limit for field, name in bounds_of(variable).items() if name in drawn}
        drawn[variable.name] = _sample(variable, rng_of(variable.name), unseen, kind, bounds)
    return {variable.name: drawn[variable.name].text for variable in variables}


def real_values(variable: Variable, *, held_out: bool) -> tuple[str, ...]:
    """Real values on one side of the split that fit a variable, without the author's; none if no list of values fits."""
    fitting = list_for(variable)
    return _one_side(variable.name, fitting.values, held_out) if fitting else ()


def _one_side(name: str, values: Sequence[str], unseen: bool) -> tuple[str, ...]:
    return tuple(value for value in values if held_out(name, value) == unseen)


def sample_path(graph: Graph, rng: random.Random) -> Path:
    """A path by the edges' weights; where facts decide, by how many of their values lead along each edge."""
    listed = {variable.name: variable.values for variable in graph.spec.variables}
    facts = {name: rng.choice(listed[name]) for name in graph.facts}

    return walk_path(graph, lambda _, edges: choose_by_weight(edges, rng), facts)


def choose_by_weight(edges: Sequence[Edge], rng: random.Random) -> Edge:
    """One of `edges`, drawn by weight."""
    return rng.choices(edges, weights=[edge.weight for edge in edges])[0]


def walk_path(graph: Graph, choose: Callable[[Node, Sequence[Edge]], Edge], values: Mapping[str, str]) -> Path:
    """A path along the edges that `choose` returns. Raises InvalidInputError when no terminal is reached."""
    try:
        return graph.walk(choose, values=values)
    except ValueError as error:
        raise InvalidInputError(str(error)) from None


def fit_values_to_path(graph: Graph, path: Path, values: dict[str, str], rng: random.Random) -> dict[str, str]:
    """`values`, with facts that would not lead along `path` sampled again: facts decide which edge is taken."""
    wrong = {name: allowed for name, allowed in graph.facts_on(path).items() if values[name] not in allowed}
    return values | {name: rng.choice(sorted(allowed)) for name, allowed in wrong.items()}


def context_lines(spec: ProcedureSpec, values: Mapping[str, str]) -> str:
    """The agent's knowledge about this customer: a line for each variable of visibility context."""
    known = [variable.name for variable in spec.variables if variable.visibility == "context"]
    return "\n".join(f"{name}: {values[name]}" for name in known)


def system_message(spec: ProcedureSpec, values: Mapping[str, str]) -> str:
    """The system message: the system prompt, which is the same in all conversations, then the context."""
    return f"{spec.system_prompt}\n{context_lines(spec, values)}".strip()


Limit = int | date | None
Bounds = Mapping[str, Limit]
"""Values of the variables behind `min`, `max` and `after`."""


@dataclass(frozen=True)
class _Drawn:
    """A value. `key` decides on its side of the split, `limit` is what it means for variables that it bounds."""

    key: str
    text: str
    limit: Limit = None


def _sample(variable: Variable, rng: random.Random, unseen: bool, kind: ValueKind, bounds: Bounds) -> _Drawn:
    draw = _DRAWS[kind][variable.type]
    for _ in range(_TRIES):
        drawn = draw(variable, rng, bounds)
        closed = variable.type == "string" and not variable.open
        if closed or held_out(variable.name, drawn.key) == unseen:
            break
    return drawn  # if the range is so small that it has no held-out value, another one


def _string(variable: Variable, rng: random.Random, bounds: Bounds) -> _Drawn:
    made_up = variable.open and rng.random() < MADE_UP_SHARE
    text = _made_up(variable.values, rng) if made_up else rng.choice(variable.values)
    return _Drawn(text, text)


def _rich_string(variable: Variable, rng: random.Random, bounds: Bounds) -> _Drawn:
    source = rng.random() if variable.open else 0
    if source < LISTED_SHARE:
        text = rng.choice(variable.values)
    elif source < LISTED_SHARE + REAL_SHARE and (fitting := list_for(variable)):
        text = fitting.draw(rng)
    else:
        text = _made_up_like(variable.values, rng)
    return _Drawn(text, text)


def _real_string(variable: Variable, rng: random.Random, bounds: Bounds) -> _Drawn:
    """A listed value or a real one. Where no list of real values fits, made-up ones are needed so that the model copies."""
    if not variable.open or rng.random() < LISTED_SHARE:
        text = rng.choice(variable.values)
    elif fitting := list_for(variable):
        text = fitting.draw(rng)
    else:
        text = _made_up_like(variable.values, rng)
    return _Drawn(text, text)


def _made_up_like(values: Sequence[str], rng: random.Random) -> str:
    """A made-up name, but in small letters and with an article where the author's values are so: "a toston"; or a code."""
    if all(_is_code(value) for value in values):
        return _PART.sub(lambda part: _another(part[0], rng) if _varies(part[0]) else part[0], rng.choice(values))
    text = _made_up([without_article(value) for value in values], rng)
    small = all(value[0].islower() for value in values)
    return noun_form_of(values)(text.lower()) if small else text


def _is_code(value: str) -> bool:
    """Whether a value has digits, and enough that can be another: "INV-2027-118", not "Terminal 2"."""
    varying = "".join(filter(_varies, _PART.findall(value)))
    return len(varying) >= _FEWEST_VARYING and any(character.isdigit() for character in varying)


def _varies(part: str) -> bool:
    """Whether letters or digits of a code are other ones in another code; words, units such as "pm", and years are not."""
    return part.isupper() and len(part) <= _LONGEST_PREFIX if part.isalpha() else not _YEAR.fullmatch(part)


def _another(part: str, rng: random.Random) -> str:
    """Other digits, not beginning with 0, or other letters."""
    if part.isdigit():
        return rng.choice(digits[1:]) + "".join(rng.choices(digits, k=len(part) - 1))
    return "".join(rng.choices(ascii_uppercase, k=len(part)))


def _made_up(values: Sequence[str], rng: random.Random) -> str:
    """A made-up name of one to three words: syllables, two known names spliced, or random letters."""
    return " ".join(_word(values, rng) for _ in range(rng.choice((1, 1, 1, 2, 2, 3))))


def _word(values: Sequence[str], rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.5:
        word = "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 3)))  # a single one may be a word such as "in"
    elif kind < 0.75:
        first, second = (rng.choice(values).split()[0].lower() for _ in range(2))
        word = first[: rng.randint(2, 4)] + second[-rng.randint(2, 4) :]
    else:
        word = "".join(rng.choices(ascii_lowercase, k=rng.randint(3, 9)))
    return word.capitalize()


def _integer(variable: Variable, rng: random.Random, bounds: Bounds) -> _Drawn:
    value = _number(variable, rng, bounds)
    return _Drawn(str(value), rng.choice(variable.formats or ("{value}",)).format(value=value), value)


def _number(variable: Variable, rng: random.Random, bounds: Bounds) -> int:
    """A step of the range between the bounds; the upper bound itself where no step is between them."""
    assert variable.minimum is not None and variable.maximum is not None  # lint guarantees it
    least, most = bounds.get("min"), bounds.get("max")
    top = min(variable.maximum, most) if isinstance(most, int) else variable.maximum
    first = variable.minimum
    if isinstance(least, int) and least > first:
        first += -(-(least - first) // variable.step) * variable.step
    return rng.randrange(first, top + 1, variable.step) if first <= top else top


def _rich_integer(variable: Variable, rng: random.Random, bounds: Bounds) -> _Drawn:
    drawn = _integer(variable, rng, bounds)
    in_words = variable.visibility == "customer" and not variable.formats and rng.random() < SPELLED_SHARE
    number = int(drawn.key)
    return _Drawn(drawn.key, spelled(number), number) if in_words and 0 <= number <= LARGEST_SPELLED else drawn


def _dates(variable: Variable, rng: random.Random, bounds: Bounds) -> _Drawn:
    start, end = _days(variable, rng, bounds)
    text = rng.choice(variable.formats or _DATE_FORMATS).format(start=start, end=end)
    return _Drawn(_date_key(start), text, end if shows_end(variable) else start)


def _real_dates(variable: Variable, rng: random.Random, bounds: Bounds) -> _Drawn:
    start, end = _days(variable, rng, bounds)
    chosen = rng.choice(usable_formats(variable.formats or _DATE_FORMATS, start, end) or _DATE_FORMATS)
    return _Drawn(_date_key(start), chosen.format(start=start, end=end), end if shows_end(variable) else start)


def _rich_dates(variable: Variable, rng: random.Random, bounds: Bounds) -> _Drawn:
    start, end = _days(variable, rng, bounds)
    formats = variable.formats or _DATE_FORMATS
    chosen = rng.choice(usable_formats(formats, start, end) or _DATE_FORMATS)
    text = chosen.format(start=start, end=end)
    if variable.visibility == "customer" and rng.random() < OTHER_FORM_SHARE:
        text = other_form(chosen, formats, start, end, rng) or text
    return _Drawn(_date_key(start), text, end if shows_end(variable) else start)


def _days(variable: Variable, rng: random.Random, bounds: Bounds) -> tuple[date, date]:
    assert variable.from_ and variable.to  # lint guarantees it
    first, last, before = date.fromisoformat(variable.from_), date.fromisoformat(variable.to), bounds.get("after")
    if isinstance(before, date) and before >= first:
        first = before + timedelta(days=1)
    start = first + timedelta(days=rng.randint(0, max(0, (last - first).days)))
    return start, start + timedelta(days=rng.randint(variable.min_days, variable.max_days))


def _date_key(start: date) -> str:
    """What decides on the side of the split: the first day, in whatever form it is written."""
    return f"{start:%m-%d}"


_Draw = Callable[[Variable, random.Random, Bounds], _Drawn]
_DRAWS: dict[ValueKind, dict[str, _Draw]] = {
    "plain": {"string": _string, "integer": _integer, "dateRange": _dates},
    "real": {"string": _real_string, "integer": _integer, "dateRange": _real_dates},
    "rich": {"string": _rich_string, "integer": _rich_integer, "dateRange": _rich_dates},
    "foreign": {"string": _rich_string, "integer": _integer, "dateRange": _rich_dates},
}
