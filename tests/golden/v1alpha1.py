"""The promises of v1alpha1, field by field, and what would break one.

Whoever wrote a file or a program against an earlier v1alpha1 must be able to go on using it. Additions are free.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from subterra_api.crd import all_crds
from subterra_api.v1alpha1 import pod_settings

Facts = dict[str, Any]
Tree = dict[str, Facts]

LOWER, UPPER = ("minimum", "minLength", "minItems"), ("maximum", "maxLength", "maxItems")
FIXED = ("type", "format", "int-or-string", "preserve-unknown-fields", "list-type", "list-map-keys", "exclusiveMinimum")
HARMLESS = {rule for rules in pod_settings.RULES.values() for rule, _ in rules}
"""Rules that refuse only what no pod can have: files that break them never worked."""
ADVICE = (
    "v1alpha1 is in use: give the new meaning to a new optional field and leave the old one as it is, or start v1alpha2 with a "
    "conversion. "
    "If no release has ever had the field, `make golden ALLOW=--allow-breaking` forgets the promise."
)


def tree() -> Tree:
    """Path → what may be written there, for all kinds."""
    found: Tree = {}
    for crd in all_crds():
        kind, version = crd["spec"]["names"]["kind"], crd["spec"]["versions"][0]
        found[f"{kind}/names"] = {"names": sorted([*crd["spec"]["names"]["shortNames"], *crd["spec"]["names"]["categories"]])}
        found[f"{kind}/subresources"] = {"names": sorted(version["subresources"])}
        found |= _fields(kind, version["schema"]["openAPIV3Schema"], required=True)
    return found


def _fields(path: str, schema: Facts, *, required: bool) -> Tree:
    kept = (*FIXED, *LOWER, *UPPER, "enum", "pattern")
    plain = {key.removeprefix("x-kubernetes-"): value for key, value in schema.items()}
    facts: Facts = {"required": required} | {key: plain[key] for key in kept if key in plain}
    if rules := plain.get("validations"):
        facts["rules"] = sorted(rule["rule"] for rule in rules)
    found = {path: facts}
    for name, child in schema.get("properties", {}).items():
        found |= _fields(f"{path}.{name}", child, required=name in schema.get("required", ()))
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(key), dict):
            found |= _fields(path + mark, schema[key], required=False)
    return found


def breaking(old: Tree, new: Tree) -> list[str]:
    """What breaks, whom, one line each; empty when everything that was promised holds."""
    lines = [line for path in old for line in (_changed(path, old[path], new[path]) if path in new else [_gone(path)])]
    for path in new.keys() - old.keys():
        if new[path].get("required") and _parent(path) in old:
            lines.append(f"{path} is new and required: files that were complete are refused")
    return sorted(lines)


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _gone(path: str) -> str:
    return f"{path} is gone: files that set it are refused, and programs that read it find nothing"


def _changed(path: str, old: Facts, new: Facts) -> Iterator[str]:
    if lost := _missing(old.get("names"), new.get("names")):
        yield f"{path} lost {lost}: commands that use it fail"
    if new.get("required") and not old.get("required"):
        yield f"{path} became required: files without it are refused"
    for key in FIXED:
        if old.get(key) != new.get(key):
            yield f"{path} has another {key} ({old.get(key)} → {new.get(key)}): files and programs expect the old one"
    for key in (*LOWER, *UPPER):
        if _narrower(key, old.get(key), new.get(key)):
            yield f"{path} has a narrower {key} ({old.get(key)} → {new.get(key)}): files with values between are refused"
    if "enum" in new and ("enum" not in old or _missing(old["enum"], new["enum"])):
        yield f"{path} allows fewer values ({old.get('enum', 'any')} → {new['enum']}): files with the others are refused"
    if "pattern" in new and not _alternatives(old.get("pattern")) <= _alternatives(new["pattern"]):
        yield f"{path} has another pattern ({old.get('pattern')} → {new['pattern']}): files that match only the old one are refused"
    if added := _missing([rule for rule in new.get("rules", ()) if rule not in HARMLESS], old.get("rules")):
        yield f"{path} has a new rule ({added}): files that break it are refused"


def _alternatives(pattern: str | None) -> set[str]:
    """What matches ``^(a|b)$`` also matches ``^(a|b|c)$``; any other pattern is a single alternative."""
    inside = pattern[2:-2] if pattern and pattern.startswith("^(") and pattern.endswith(")$") else ""
    return set(inside.split("|")) if inside and not set(inside) & set("()[]\\") else {str(pattern)}


def _missing(wanted: Sequence[Any] | None, found: Sequence[Any] | None) -> str:
    return ", ".join(str(item) for item in wanted or () if item not in (found or ()))


def _narrower(key: str, old: float | None, new: float | None) -> bool:
    if new is None:
        return False
    return old is None or (new > old if key in LOWER else new < old)


def text(of: Tree) -> str:
    """The golden file: a line per field, so that a diff reads well."""
    lines = [f"{json.dumps(path)}: {json.dumps(facts, sort_keys=True)}" for path, facts in sorted(of.items())]
    return "{\n" + ",\n".join(lines) + "\n}\n"
