"""Conditions of Rasa's flows, such as `not slots.confirmed` or `slots.kind is 'card'`. Pure."""

import re
from dataclasses import dataclass

_SLOT = re.compile(r"\bslots\.(\w+)")
_TRUTH = re.compile(r"(not\s+)?slots\.(\w+)", re.IGNORECASE)
_COMPARED = re.compile(
    r"slots\.(\w+)\s*(==|=|!=|is not|is|<=|>=|<|>|equals|contains|matches)\s*(\"[^\"]*\"|'[^']*'|[^\s\"'()]+)", re.IGNORECASE
)
_WORDS = {
    "==": "is", "=": "is", "is": "is", "equals": "is", "!=": "is not", "is not": "is not",
    "<": "is less than", ">": "is more than", "<=": "is at most", ">=": "is at least",
}  # fmt: skip
YES, NO = "yes", "no"


@dataclass(frozen=True)
class Test:
    """A condition on one slot. `operator` is a word such as `is`; `is` with `yes` and `no` asks whether the slot is true."""

    slot: str
    operator: str
    value: str

    @property
    def truth(self) -> bool:
        """Whether it asks only if the slot is true or filled."""
        return self.operator == "is" and self.value in (YES, NO)


def slots_in(condition: str) -> tuple[str, ...]:
    """Names of the slots on which a condition depends."""
    return tuple(dict.fromkeys(_SLOT.findall(condition)))


def shown(condition: str) -> str:
    """A condition as people read it."""
    return " ".join(_SLOT.sub(r"\1", condition).split())


def parse_test(condition: str) -> Test | None:
    """The condition as a test of one slot; `None` if it is more than that."""
    text = condition.strip()
    if truth := _TRUTH.fullmatch(text):
        return Test(truth[2], "is", NO if truth[1] else YES)
    negated = re.match(r"not\s+", text, re.IGNORECASE)
    compared = _COMPARED.fullmatch(text[negated.end() :].strip("() ") if negated else text)
    if not compared or compared[3].startswith("slots."):
        return None
    operator = _WORDS.get(compared[2].lower(), compared[2].lower())
    if negated:
        if operator not in ("is", "is not"):
            return None
        operator = {"is": "is not", "is not": "is"}[operator]
    return _of_value(compared[1], operator, compared[3].strip("\"'"))


def _of_value(slot: str, operator: str, value: str) -> Test:
    """`is true` and `is not false` as yes, `is null` as no."""
    plain = value.lower()
    if operator in ("is", "is not") and plain in ("true", "false", "null", "none"):
        holds = (plain == "true") == (operator == "is")
        return Test(slot, "is", YES if holds else NO)
    return Test(slot, operator, value)
