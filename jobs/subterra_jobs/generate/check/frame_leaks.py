"""Finds what a model says about itself, or in its own format, instead of speaking as the person in the chat. Pure."""

import re

_TEMPLATE_TOKEN = re.compile(
    r"<\|[^|<>]{1,40}\|>|<｜[^｜<>]{1,40}｜>|\[/?INST\]|<</?SYS>>|<(start|end)_of_turn>|</?s>|<eos>|<bos>|<pad>", re.IGNORECASE
)
_TAG = re.compile(
    r"</?(think(ing)?|thoughts?|reasoning|reflection|analysis|scratchpad|answer|response|output|final|tool_?calls?|tool_response|"
    r"function_?calls?|invoke|parameter|artifact|assistant|system|user|customer|agent|turn|message|known)\b[^<>]{0,80}>",
    re.IGNORECASE,
)
_DATA = re.compile(r"^\s*(\[\s*)?\{\s*[\"'][^{}]*[\"']\s*:|```")
_PLACEHOLDER = re.compile(
    r"(?<![\w{$])\$?\{[A-Za-z][\w .-]{0,38}\}|_{3,}|"
    r"<([A-Z][A-Z_ ]{2,38}|(your|insert|customer|agent|first|last|full|order|booking|account)[ _-][\w -]{2,36}|name|date|number)>"
)
_ABOUT_ITSELF = re.compile(
    r"\bas an? (ai|artificial intelligence|(large )?language model|llm)\b|"
    r"\bi(['’]| a)m (just |only )?an? (ai|artificial intelligence|(large )?language model|llm)\b|"
    r"\bmy (training data|knowledge cut-?off|system prompt)\b",
    re.IGNORECASE,
)
_DECLINES = re.compile(
    r"^\W*((i['’]m|i am) (very |really )?sorry,? (but )?|sorry,? (but )?|i apologi[sz]e,? (but )?|unfortunately,? )?"
    r"i (can['’]?t|cannot|can not|am (not able|unable) to|won['’]t|will not|must decline to) "
    r"(assist|help|comply|continue|engage|provide|create|generate|write|produce|role-?play|participate|fulfill?)"
    r"( (you )?with (that|this)\W*$|\W*$|.{0,40}\b(request|content|role-?play|instruction|conversation|scenario)\b)",
    re.IGNORECASE,
)
_MAY_DECLINE = re.compile(r"(can ?not|can['’]t|(not able|unable) to) (help|assist)|\bdeclin|\brefus", re.IGNORECASE)
_ABOUT_THE_TASK = re.compile(
    r"^\W*((sure|certainly|of course|absolutely|okay|ok)\W{0,3})?(here (is|are)|here['’]s|below is|this is|the next|my next)\b"
    r".{0,40}\b(turn|message|reply|response|line|utterance)\b[^.!?]{0,40}:|"
    r"^\W*(next turn|response|reply|output|final answer|draft|revised( version| turn)?)\s*:|"
    r"\((note|explanation)\s*:|\bthe (instruction|decision|twist) (says|asks|tells|requires)\b",
    re.IGNORECASE,
)
_KINDS = (
    (_TEMPLATE_TOKEN, "has a token of a chat template"),
    (_TAG, "has a tag of a model's own format"),
    (_DATA, "is data or code"),
    (_PLACEHOLDER, "has a placeholder left"),
    (_ABOUT_ITSELF, "speaks as a language model"),
    (_DECLINES, "declines the task"),
    (_ABOUT_THE_TASK, "speaks about the task"),
)
_EXEMPT = {_PLACEHOLDER: _PLACEHOLDER, _ABOUT_ITSELF: _ABOUT_ITSELF, _DECLINES: _MAY_DECLINE}
"""Kinds that a procedure may want, each with what its own texts then contain."""


class FrameChecker:
    """Finds leaks of a model's frame, but no kind that the procedure's own texts contain too: an agent may be an AI by profession,
    or be instructed to say that it cannot help.
    """

    def __init__(self, own_text: str) -> None:
        self._kinds = [
            (pattern, problem) for pattern, problem in _KINDS if pattern not in _EXEMPT or not _EXEMPT[pattern].search(own_text)
        ]

    def problem(self, text: str) -> str | None:
        """The leak in an utterance, its words after a colon, or `None`."""
        for pattern, problem in self._kinds:
            if found := pattern.search(text):
                return f"{problem}: {' '.join(found.group().split())[:60]}"
        return None
