"""Texts that people read as the same, as the same string. Pure.

Keyboards, editors and models write one letter as one character or as several (é on macOS), and have their own quotes and digits.
"""

from functools import lru_cache
from unicodedata import normalize

_WIDE = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)}
_PLAIN = {"'": "‘’‚‛′", '"': "“”„‟″", " ": "\u00a0\u2007\u202f\u3000", "-": "\u2010\u2011"}
_FORMS = _WIDE | {ord(form): plain for plain, forms in _PLAIN.items() for form in forms}
"""Full-width letters and digits, quotes, spaces and hyphens, each with its ASCII character."""


def composed(text: str) -> str:
    """`text` in Unicode's normal form C: each letter with its accents is one character, where there is one."""
    return text if text.isascii() else normalize("NFC", text)


@lru_cache(maxsize=256)  # a reply is held against thousands of phrasings
def alike(text: str) -> str:
    """`composed(text)` with ASCII digits, quotes, spaces and hyphens; places in both are the same."""
    return text if text.isascii() else composed(text).translate(_FORMS)
