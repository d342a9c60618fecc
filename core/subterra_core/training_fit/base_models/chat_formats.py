"""How families of models mark who speaks in a chat, and which of these formats a vocabulary has. Pure."""

import re
from collections.abc import Container
from dataclasses import dataclass, replace
from functools import cached_property


@dataclass(frozen=True)
class Turn:
    """Text before and after a message."""

    before: str
    after: str


@dataclass(frozen=True)
class ChatFormat:
    """The text around each message of a chat."""

    name: str
    tokens: tuple[str, ...]
    """Each must be a token of its own."""
    system: Turn
    user: Turn
    agent: Turn
    end: str
    """The token that ends a turn of the agent, and only such a turn if `agent.before` is empty."""
    broken: tuple[str, ...] = ("<|",)
    """What is broken up in the text of every message, so that no message can open or end a turn."""

    @cached_property
    def agent_turns(self) -> re.Pattern[str]:
        """Finds the agent's words in a rendered chat, with the token that ends them, as the group `said`."""
        opening = re.escape(self.agent.before)
        if not opening:
            others = "|".join(re.escape(turn.after) for turn in (self.system, self.user))
            opening = f"(?:{others})(?!{re.escape(self.user.before)})"
        return re.compile(f"{opening}(?P<said>.*?{re.escape(self.end)})", re.DOTALL)


def _with_headers(name: str, begin: str, after_role: str, end: str, newline: str = "", agent: str = "assistant") -> ChatFormat:
    """A format whose markers are the same for all roles, which stand between them by name."""
    system, user, said = (Turn(f"{begin}{role}{after_role}", end + newline) for role in ("system", "user", agent))
    tokens = tuple(filter(None, (begin, after_role.strip(), end)))
    return ChatFormat(name, tokens, system, user, said, end, ("<|",) if begin.startswith("<|") else (begin, end))


CHATML = _with_headers("ChatML", "<|im_start|>", "\n", "<|im_end|>", "\n")
_MISTRAL = ("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[INST]", "[/INST]", "</s>")
_DEEPSEEK = ("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>")
CHAT_FORMATS = (
    CHATML,
    _with_headers("Llama 3", "<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>"),
    _with_headers("Gemma", "<start_of_turn>", "\n", "<end_of_turn>", "\n", "model"),
    _with_headers("Granite", "<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>", "\n"),
    replace(_with_headers("Phi", "<|", "|>\n", "<|end|>", "\n"), tokens=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")),
    ChatFormat("Mistral", _MISTRAL, Turn(*_MISTRAL[:2]), Turn(*_MISTRAL[2:4]), Turn("", "</s>"), "</s>", _MISTRAL),
    ChatFormat("DeepSeek", _DEEPSEEK, Turn("", ""), Turn(_DEEPSEEK[0], ""), Turn(*_DEEPSEEK[1:]), _DEEPSEEK[2], ("<｜",)),
)
"""Those that are trained. The ends of their turns differ, and tell them apart."""


def chat_format_in(vocabulary: Container[str], own_template: str = "") -> ChatFormat | None:
    """The format that a tokenizer's vocabulary has: of several that of the model's own template, else the first; or `None`."""
    had = [each for each in CHAT_FORMATS if all(token in vocabulary for token in each.tokens)]
    return next((each for each in had if each.tokens[0] in own_template), had[0] if had else None)


def chat_format_ended_by(end: str) -> ChatFormat:
    """The format whose turns end with this token."""
    return next(each for each in CHAT_FORMATS if each.end == end)


def named_formats() -> str:
    """All formats with their tokens, for a message."""
    return "; ".join(f"{each.name}: {' '.join(each.tokens)}" for each in CHAT_FORMATS)
