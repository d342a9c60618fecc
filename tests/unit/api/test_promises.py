"""v1alpha1 keeps what it promised: files and programs that were written against it go on working."""

import copy
import json
from typing import Any

import pytest
from tests.golden.__main__ import GOLDEN
from tests.golden.v1alpha1 import ADVICE, breaking, text, tree

OLD = {
    "Kind/names": {"names": ["kind"]},
    "Kind": {"required": True, "type": "object"},
    "Kind.spec": {"required": True, "type": "object"},
    "Kind.spec.size": {"required": False, "type": "integer", "minimum": 1, "maximum": 9},
    "Kind.spec.mode": {"required": False, "type": "string", "enum": ["A", "B"]},
    "Kind.spec.uri": {"required": False, "type": "string", "pattern": "^(a|c)$"},
    "Kind.spec.name": {"required": False, "type": "string", "pattern": "^a$", "maxLength": 5},
}


def changed(path: str, **facts: Any) -> dict[str, Any]:
    """The old tree with a field that is otherwise; facts of None are dropped."""
    new = copy.deepcopy(OLD)
    new[path] = {key: value for key, value in (new.get(path, {}) | facts).items() if value is not None}
    return new


def test_nothing_that_v1alpha1_promised_is_broken() -> None:
    lines = breaking(json.loads(GOLDEN.read_text()), tree())
    assert not lines, "\n".join([*lines, ADVICE])


def test_every_promise_is_written_down() -> None:
    assert GOLDEN.read_text() == text(tree()), "v1alpha1 has something new, which is fine: run `make golden` and commit the file"


@pytest.mark.parametrize(
    "new",
    [
        changed("Kind.spec.colour", type="string", required=False),
        changed("Kind.spec.size", maximum=10, minimum=0),
        changed("Kind.spec.size", maximum=None, minimum=None),
        changed("Kind.spec.mode", enum=["A", "B", "C"]),
        changed("Kind.spec.name", pattern=None, maxLength=6),
        changed("Kind.spec.uri", pattern="^(a|b://.+|c)$"),
        changed("Kind/names", names=["kind", "k"]),
        changed("Other", type="object", required=True) | {"Other.spec": {"type": "object", "required": True}},
    ],
)
def test_additions_are_free(new: dict[str, Any]) -> None:
    assert breaking(OLD, new) == []


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ({path: facts for path, facts in OLD.items() if path != "Kind.spec.mode"}, "Kind.spec.mode is gone: files that set it"),
        (changed("Kind.spec.colour", type="string", required=True), "Kind.spec.colour is new and required"),
        (changed("Kind.spec.size", required=True), "Kind.spec.size became required"),
        (changed("Kind.spec.size", type="string"), "Kind.spec.size has another type (integer → string)"),
        (changed("Kind.spec.size", maximum=8), "Kind.spec.size has a narrower maximum (9 → 8)"),
        (changed("Kind.spec.size", minimum=2), "Kind.spec.size has a narrower minimum (1 → 2)"),
        (changed("Kind.spec.name", minLength=1), "Kind.spec.name has a narrower minLength (None → 1)"),
        (changed("Kind.spec.mode", enum=["A"]), "Kind.spec.mode allows fewer values"),
        (changed("Kind.spec.name", enum=["a"]), "Kind.spec.name allows fewer values"),
        (changed("Kind.spec.name", pattern="^b$"), "Kind.spec.name has another pattern"),
        (changed("Kind.spec.uri", pattern="^(a|b)$"), "Kind.spec.uri has another pattern"),
        (changed("Kind.spec", rules=["self.size > 1"]), "Kind.spec has a new rule (self.size > 1)"),
        (changed("Kind/names", names=[]), "Kind/names lost kind"),
    ],
)
def test_a_breaking_change_is_named_with_whom_it_breaks(new: dict[str, Any], words: str) -> None:
    [line] = breaking(OLD, new)
    assert line.startswith(words)
