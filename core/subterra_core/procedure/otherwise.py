"""What the agent says when the customer says something for which the flowchart has no words. Pure."""

from typing import Literal

from subterra_api.v1alpha1.procedure import ProcedureSpec

OtherwiseKind = Literal["offTopic", "unknownValue", "afterEnd"]
"""Something off the topic; a value that a closed variable does not list; anything after the end. Names of `spec.otherwise`."""
UNKNOWN_VALUE = "value"
"""In texts of `unknownValue`, the placeholder for what the customer named."""

_DEFAULTS: dict[OtherwiseKind, tuple[str, ...]] = {
    "offTopic": (
        "I'm sorry, I can't help with that here.",
        "I'm afraid that is outside what I can help with.",
        "Sorry, that is something I can't answer here.",
    ),
    "unknownValue": (
        "I'm sorry, {{value}} is not something I can offer.",
        "I'm afraid I can't offer {{value}} here.",
        "Sorry, {{value}} is not one of the options I have.",
    ),
    "afterEnd": ("This chat has ended. Thank you, and goodbye!", "We are at the end of this chat. Thank you, goodbye!"),
}
"""They only refuse: one that named a listed value could be taken for a confirmation of it. Those of `afterEnd` answer "Thanks!" as
well as "One more thing."."""
_FORMER_AFTER_END = ("You're welcome. Goodbye!", "Thank you, goodbye.", "Thanks, and goodbye!")
"""Defaults of earlier versions, which agents compiled then still say."""


def otherwise_texts(spec: ProcedureSpec, kind: OtherwiseKind) -> tuple[str, ...]:
    """The author's texts of this kind, else the defaults; those of `unknownValue` may contain `{{value}}`."""
    written: dict[OtherwiseKind, tuple[str, ...]] = {
        "offTopic": spec.otherwise.off_topic,
        "unknownValue": spec.otherwise.unknown_value,
        "afterEnd": spec.otherwise.after_end,
    }
    return written[kind] or _DEFAULTS[kind]


def recognized_otherwise_texts(spec: ProcedureSpec, kind: OtherwiseKind) -> tuple[str, ...]:
    """What counts as an answer of this kind: `otherwise_texts`, and what agents of earlier versions learnt in their place."""
    former = _FORMER_AFTER_END if kind == "afterEnd" and not spec.otherwise.after_end else ()
    return otherwise_texts(spec, kind) + former
