"""Why the API server refused a write, as a reason and a message with the fix. Pure: reads the answer's code and words.

The words are those of Kubernetes 1.30 to 1.36; an answer that no rule knows is `Refused`, with the API server's words.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from subterra_api.v1alpha1.conditions import Reason
from subterra_operator.decide.decision import Write
from subterra_operator.decide.refused_fields import fields_to_correct
from subterra_operator.labels import MANAGED_BY, MANAGER, labels_of
from subterra_operator.resources import KINDS, Key, key_of
from subterra_operator.snapshot import Observed, Refusal
from subterra_operator.specs.traffic.http_route import canary_name

REFUSING_CODES = (400, 403, 409, 413, 422)
WORDS_LIMIT = 600
"""Longest quotation of the API server; some of its messages contain whole objects."""
RETRIED = "retried automatically"


@dataclass(frozen=True)
class Answer:
    """An unsuccessful answer of the API server: HTTP status, and the message of its Status object."""

    code: int
    message: str


@dataclass(frozen=True)
class _Refused:
    """A refused write for ``subject``, and a rule's match of the answer."""

    write: Write
    subject: Observed
    answer: Answer
    match: re.Match[str]

    @property
    def namespace(self) -> str:
        return self.write.key.namespace

    def named(self, group: str, otherwise: str) -> str:
        """A named group of the match."""
        return self.match.groupdict().get(group) or otherwise


def refused_deletion(answer: Answer, obj: Mapping[str, Any], subject: Mapping[str, Any]) -> Refusal | None:
    """The refusal to delete an object, or `None` likewise."""
    found = refusal_of(answer, Write("patch", dict(obj)), subject)
    return found and Refusal(found.reason, f"the deletion of {found.message}", of_deletion=True)


def refusal_of(answer: Answer, write: Write, subject: Mapping[str, Any]) -> Refusal | None:
    """The refusal, or `None` for an answer that is none: another attempt may succeed though nobody changes anything."""
    words = _short_message(answer.message)
    if not _refuses(answer.code, words):
        return None
    for pattern, reason, fix in _RULES:
        if (match := pattern.search(words)) and (reason is not Reason.NAME_TAKEN or write.verb != "patch"):
            text = fix(_Refused(write, subject, answer, match))
            return Refusal(reason, f"{write.key} was refused: {words.rstrip('.')}; {text}; {RETRIED}")
    raise AssertionError("the last rule matches everything")


def _refuses(code: int, words: str) -> bool:
    if _DENIED.search(words):
        return True  # policies and webhooks choose the code
    if code in (409, 500):
        return bool((_FIELD_CONFLICT if code == 409 else _UNREACHABLE_WEBHOOK).search(words))
    return code in REFUSING_CODES


def name_taken(existing: Mapping[str, Any]) -> Refusal:
    """The refusal to use an object that is not the wanted one: somebody else's, another resource's, or left behind."""
    key = key_of(existing)
    if labels_of(existing).get(MANAGED_BY) == MANAGER:
        return Refusal(Reason.NAME_TAKEN, f"{key} {_whose(key, existing)}; {RETRIED}")
    text = f"{key} exists and is not managed by Subterra; delete or rename it"
    if key.kind == "PersistentVolumeClaim":
        label = f"kubectl -n {key.namespace} label pvc {key.name} {MANAGED_BY}={MANAGER}"
        text += f", or let Subterra use it as the store: {label}"
    elif key.kind == "NetworkPolicy":
        text += ", or set networkPolicies.enabled to false in the chart's values and write all policies yourself"
    return Refusal(Reason.NAME_TAKEN, f"{text}; {RETRIED}")


def stuck_deletion(existing: Mapping[str, Any]) -> Refusal:
    """The refusal to wait any longer without a word for an object that is being deleted and has the wanted name."""
    key, metadata = key_of(existing), existing["metadata"]
    held = ", ".join(metadata.get("finalizers") or ())
    by = f", held by the finalizers {held}; find out what they wait for" if held else f"; see {_get(_resource(key), *key[:0:-1])}"
    return Refusal(Reason.NAME_TAKEN, f"{key} is being deleted since {metadata['deletionTimestamp']}{by}; {RETRIED}")


def _whose(key: Key, existing: Mapping[str, Any]) -> str:
    """Which other resource has an object of ours, and what to do."""
    owners = existing["metadata"].get("ownerReferences") or ()
    owner = next(((each["kind"], each["name"]) for each in owners if each.get("controller")), None)
    if owner is None:
        return "has no owner, as after kubectl delete --cascade=orphan of the one that made it; delete it"
    kind, name = owner
    rename = "delete {} and create it under another name, or remove spec.promotion.canary from {}"
    if (key.kind, key.name) == ("Service", canary_name(name)):
        free = f"{rename.format('this agent', f'{kind} {name}')}, then run kubectl -n {key.namespace} delete service {key.name}"
        return f"is the canary's of {kind} {name}; {free}"
    if (key.kind, kind, key.name) == ("Service", "CompiledAgent", name):
        return f"is that of {kind} {name}, and this agent's canary needs the name; {rename.format(f'{kind} {name}', 'this agent')}"
    return f"belongs to {kind} {name}; delete that one, and create it under another name"


def _short_message(message: str) -> str:
    """The API server's message without the object's name in front, on one line, shortened."""
    text = _NAME_IN_FRONT.sub("", " ".join(message.split()))
    return text if len(text) <= WORDS_LIMIT else text[: WORDS_LIMIT - 1] + "…"


def _get(kind: str, name: str, namespace: str = "") -> str:
    return f"kubectl {f'-n {namespace} ' if namespace else ''}get {kind} {name}".rstrip() + " -o yaml"


def _wait_for_namespace(refused: _Refused) -> str:
    return f"wait until namespace {refused.namespace} is gone, then apply your files again"


def _raise_quota(refused: _Refused) -> str:
    quota = refused.named("quota", "")
    if "unknown for quota" in refused.match[0]:
        return f"wait until Kubernetes has computed what ResourceQuota {quota} has left"
    return (
        f"raise ResourceQuota {quota} or delete what uses it up: kubectl -n {refused.namespace} describe resourcequota {quota}"
    ).rstrip()


def _fix_policy(refused: _Refused) -> str:
    name = refused.match["policy"]
    kind = "mutatingadmissionpolicy" if refused.match["kind"] == "Mutating" else "validatingadmissionpolicy"
    return f"exempt objects with the label {MANAGED_BY}={MANAGER} from the policy, or change it: {_get(kind, name)}"


def _fix_webhook(refused: _Refused) -> str:
    where = "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations"
    name = refused.named("webhook", "")
    label = f"objects with the label {MANAGED_BY}={MANAGER}"
    return f"exempt {label} from admission webhook {name}, or change what it demands ({where} lists all webhooks)"


def _restore_webhook(refused: _Refused) -> str:
    name = refused.named("webhook", "")
    where = "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations"
    return f"restore the service of webhook {name}, or remove its configuration ({where} lists all)"


def _fix_pod_security(refused: _Refused) -> str:
    return f"lower the label pod-security.kubernetes.io/enforce of namespace {refused.namespace} to restricted"


def _delete_namesake(refused: _Refused) -> str:
    key = refused.write.key
    return f"an object with other contents has this name: kubectl -n {key.namespace} delete {_resource(key)} {key.name}"


def _grant(refused: _Refused) -> str:
    return "install the chart again with the operator's version (helm upgrade), or add this permission to the operator's role"


def _fix_limits(refused: _Refused) -> str:
    return f"change the LimitRange (kubectl -n {refused.namespace} describe limitrange) or correct store.size in the chart's values"


def _correct(refused: _Refused) -> str:
    fields = fields_to_correct(refused.write, refused.subject, refused.answer.message)
    return f"correct {' and '.join(fields)}"


def _resource(key: Key) -> str:
    return KINDS[key.kind].plural.removesuffix("s")


_NAME_IN_FRONT = re.compile(r'^[\w.]+ "[^"]*" is (forbidden|invalid): ')
_FIELD_CONFLICT = re.compile(r"^Apply failed with \d+ conflict")
_QUOTA = re.compile(r"(exceeded|failed|unknown for) quota: (?P<quota>[^,\s]+)|insufficient quota")
_UNREACHABLE_WEBHOOK = re.compile(r'failed calling webhook "(?P<webhook>[^"]*)"')
_POLICY = re.compile(r"(?P<kind>Validating|Mutating)AdmissionPolicy '(?P<policy>[^']+)'")
_DENYING_WEBHOOK = re.compile(r'admission webhook "(?P<webhook>[^"]+)" denied')
_DENIED = re.compile(rf"{_POLICY.pattern}|{_DENYING_WEBHOOK.pattern}")
_RULES: tuple[tuple[re.Pattern[str], Reason, Callable[[_Refused], str]], ...] = (
    (re.compile("because it is being terminated"), Reason.REFUSED, _wait_for_namespace),
    (_QUOTA, Reason.QUOTA_EXCEEDED, _raise_quota),
    (_POLICY, Reason.ADMISSION_DENIED, _fix_policy),
    (_UNREACHABLE_WEBHOOK, Reason.ADMISSION_DENIED, _restore_webhook),
    (_DENYING_WEBHOOK, Reason.ADMISSION_DENIED, _fix_webhook),
    (re.compile("violates PodSecurity"), Reason.ADMISSION_DENIED, _fix_pod_security),
    (re.compile(r"\bimmutable\b"), Reason.NAME_TAKEN, _delete_namesake),
    (_FIELD_CONFLICT, Reason.NAME_TAKEN, _delete_namesake),
    (re.compile(r"cannot \w+ resource|cannot set blockOwnerDeletion"), Reason.REFUSED, _grant),
    (re.compile(r"(minimum|maximum) .* per PersistentVolumeClaim"), Reason.REFUSED, _fix_limits),
    (re.compile(""), Reason.REFUSED, _correct),
)
"""What the words tell, in this order: pattern, reason, fix."""
