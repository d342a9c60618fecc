"""What a status says about the API server's words, as Kubernetes 1.36 writes them (tests/apiserver has the real ones)."""

from typing import Any, Literal

import pytest

from subterra_api.v1alpha1.conditions import Reason
from subterra_operator.decide.decision import Write
from subterra_operator.decide.refusal import WORDS_LIMIT, Answer, name_taken, refusal_of
from subterra_operator.resources import Object
from subterra_testkit.cluster import kubernetes_objects as make

STORE = {"kind": "PersistentVolumeClaim", "metadata": {"namespace": "demo", "name": "subterra-store"}}
DEPLOYMENT = {"kind": "Deployment", "metadata": {"namespace": "demo", "name": "travel-1a2b3c4d"}}
POLICY = {"kind": "NetworkPolicy", "metadata": {"namespace": "demo", "name": "subterra-providers"}}
OWNER = {"kind": "CompiledAgent", "name": "travel", "uid": "u", "controller": True}
RESOURCES = {"resources": {"requests": {"cpu": 2}}}
RUN = make.run(ownerReferences=[OWNER], execution={"generate": RESOURCES, "train": RESOURCES})
TEMPLATE = "spec.compile.template.execution"
Verb = Literal["create", "apply", "patch"]


def job(stage: str = "generate") -> Object:
    labels = {"subterra.dev/stage": stage}
    return {"kind": "Job", "metadata": {"namespace": "demo", "name": f"travel-12345678-{stage}-1", "labels": labels}}


def refusal(code: int, message: str, wanted: Object | None = None, verb: Verb = "create", subject: Object | None = None) -> Any:
    return refusal_of(Answer(code, message), Write(verb, wanted or job()), subject or RUN)


INVALID = 'Job.batch "travel-12345678-generate-1" is invalid: '
TABLE: list[tuple[int, str, Object, Reason, str]] = [
    (
        422,
        f'{INVALID}spec.template.spec.tolerations[0].operator: Unsupported value: "Bogus": supported values: "Equal", "Exists"',
        job(),
        Reason.REFUSED,
        f"correct {TEMPLATE}.generate.tolerations of CompiledAgent travel",
    ),
    (
        422,
        f'{INVALID}[spec.template.spec.containers[0].resources.requests[gpu]: Invalid value: "gpu": must be a standard resource '
        'type or fully qualified, spec.template.spec.containers[0].resources.requests[gpu]: Invalid value: "gpu": must be a '
        'standard resource for containers, spec.template.spec.nodeSelector: Invalid value: "a!": name part must consist of …]',
        job("train"),
        Reason.REFUSED,
        f"correct {TEMPLATE}.train.resources of CompiledAgent travel and {TEMPLATE}.train.nodeSelector of CompiledAgent travel",
    ),
    (
        422,
        f'{INVALID}spec.template.spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu '
        "limit of 1",
        job(),
        Reason.REFUSED,
        f"correct {TEMPLATE}.generate.resources of CompiledAgent travel",
    ),
    (
        422,
        f'{INVALID}metadata.labels: Invalid value: "no such queue!": a valid label must be an empty string or consist of …',
        job(),
        Reason.REFUSED,
        f"correct {TEMPLATE}.queueName of CompiledAgent travel",
    ),
    (
        403,
        'jobs.batch "travel-12345678-generate-1" is forbidden: exceeded quota: small, requested: count/jobs.batch=1, used: '
        "count/jobs.batch=0, limited: count/jobs.batch=0",
        job(),
        Reason.QUOTA_EXCEEDED,
        "raise ResourceQuota small or delete what uses it up: kubectl -n demo describe resourcequota small",
    ),
    (
        403,
        'persistentvolumeclaims "subterra-store" is forbidden: status unknown for quota: small, resources: requests.storage',
        STORE,
        Reason.QUOTA_EXCEEDED,
        "wait until Kubernetes has computed what ResourceQuota small has left",
    ),
    (
        422,
        "jobs.batch \"travel-12345678-generate-1\" is forbidden: ValidatingAdmissionPolicy 'team' with binding 'all' denied "
        "request: Jobs need the label team",
        job(),
        Reason.ADMISSION_DENIED,
        "kubectl get validatingadmissionpolicy team -o yaml",
    ),
    (
        400,
        'admission webhook "validate.kyverno.svc-fail" denied the request: \n\nresource Job/demo/x was blocked due to the '
        "following policies \n\nrequire-team:\n  autogen-check: 'validation error: label team is required'",
        job(),
        Reason.ADMISSION_DENIED,
        "exempt objects with the label app.kubernetes.io/managed-by=subterra from admission webhook validate.kyverno.svc-fail",
    ),
    *(
        (
            code,
            'admission webhook "jobs.example.com" denied the request: Jobs need the label team',
            job(),
            Reason.ADMISSION_DENIED,
            "from admission webhook jobs.example.com, or change what it demands",
        )
        for code in (401, 404, 409, 429, 500)
    ),
    (
        500,
        'Internal error occurred: failed calling webhook "validate.kyverno.svc-fail": failed to call webhook: Post "https://x": '
        "dial tcp 10.0.0.1:443: connect: connection refused",
        job(),
        Reason.ADMISSION_DENIED,
        "restore the service of webhook validate.kyverno.svc-fail",
    ),
    (
        403,
        'persistentvolumeclaims "subterra-store" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request '
        "is 20Gi",
        STORE,
        Reason.REFUSED,
        "change the LimitRange (kubectl -n demo describe limitrange) or correct store.size in the chart's values",
    ),
    (
        422,
        'PersistentVolumeClaim "subterra-store" is invalid: spec.resources[storage]: Invalid value: "0": must be greater than zero',
        STORE,
        Reason.REFUSED,
        "correct store.size in the chart's values",
    ),
    (
        422,
        'NetworkPolicy.networking.k8s.io "subterra-providers" is invalid: spec.egress[0].to[0].ipBlock.cidr: Invalid value: '
        '"10.0.0": must be a valid CIDR value',
        POLICY,
        Reason.REFUSED,
        "correct networkPolicies.providerCidrs, .hubCidrs or .registryCidrs in the chart's values",
    ),
    (
        403,
        'jobs.batch is forbidden: User "system:serviceaccount:subterra-system:subterra" cannot create resource "jobs" in API '
        'group "batch" in the namespace "demo"',
        job(),
        Reason.REFUSED,
        "add this permission to the operator's role",
    ),
    (
        403,
        'jobs.batch "x" is forbidden: unable to create new content in namespace demo because it is being terminated',
        job(),
        Reason.REFUSED,
        "wait until namespace demo is gone",
    ),
    (400, "the request is odd", job(), Reason.REFUSED, "correct the field that it names, in CompiledAgent travel"),
]


@pytest.mark.parametrize(("code", "message", "wanted", "reason", "fix"), TABLE, ids=[f"{row[0]} {row[1][:60]}" for row in TABLE])
def test_a_refusal_has_a_reason_the_servers_words_and_a_fix(
    code: int, message: str, wanted: Object, reason: Reason, fix: str
) -> None:
    found = refusal(code, message, wanted)
    assert found
    assert found.reason is reason
    assert fix in found.message
    words = " ".join(message.split()).partition(" is forbidden: ")[2] or " ".join(message.split()).partition(" is invalid: ")[2]
    assert words[:200] in found.message
    kind, name = wanted["kind"], wanted["metadata"]["name"]
    assert found.message.startswith(f"{kind} demo/{name} was refused: ")
    assert found.message.endswith("; retried automatically")


def test_a_serving_field_is_the_agents() -> None:
    message = 'Deployment.apps "x" is invalid: spec.template.spec.tolerations[0].operator: Unsupported value: "Bogus"'
    found = refusal(422, message, DEPLOYMENT, subject=make.agent())
    assert "correct spec.serving.tolerations of CompiledAgent travel" in found.message


def test_resources_that_nobody_set_are_the_charts() -> None:
    message = f'{INVALID}spec.template.spec.containers[0].resources.requests: Invalid value: "2": must be less than …'
    assert "correct defaults.resources in the chart's values" in refusal(422, message, job("evaluate")).message


def test_a_run_of_nobody_has_its_own_fields() -> None:
    found = refusal(422, f'{INVALID}spec.template.spec.nodeSelector: Invalid value: "a!": no', subject=make.run())
    assert "correct spec.execution.generate.nodeSelector of CompileRun travel-12345678" in found.message


def test_a_field_of_an_agents_run_is_named_as_in_the_agent() -> None:
    message = 'CompileRun.subterra.dev "travel-1" is invalid: spec.execution.queueName: Invalid value: "a!": no'
    found = refusal(422, message, make.run(), "apply", make.agent())
    assert "correct spec.compile.template.execution.queueName of CompiledAgent travel" in found.message


def test_another_run_of_the_wanted_name_is_to_be_deleted() -> None:
    message = (
        'CompileRun.subterra.dev "travel-12345678" is invalid: spec.inputs: Invalid value: "object": spec.inputs is immutable: '
        "create another CompileRun, or edit the CompiledAgent, which creates one for you"
    )
    found = refusal(422, message, make.run(), "apply", make.agent())
    assert found.reason is Reason.NAME_TAKEN
    assert "kubectl -n demo delete compilerun travel-12345678" in found.message
    assert refusal(422, message, make.run(), "patch", make.agent()).reason is Reason.REFUSED, "what is patched is ours"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            409,
            'Operation cannot be fulfilled on jobs.batch "x": the object has been modified',
        ),
        (409, 'Operation cannot be fulfilled on resourcequotas "small": the object has been modified'),
        (404, 'namespaces "demo" not found'),
        (429, "too many requests"),
        (500, "Internal error occurred: etcdserver: request timed out"),
        (503, "the server is currently unable to handle the request"),
        (0, "the API server does not answer"),
    ],
)
def test_what_another_attempt_may_change_is_no_refusal(code: int, message: str) -> None:
    assert refusal(code, message) is None


def test_fields_that_somebody_else_manages_make_a_name_taken() -> None:
    message = 'Apply failed with 1 conflict: conflict with "kubectl" using networking.k8s.io/v1: .spec.podSelector'
    assert refusal(409, message, POLICY, "apply").reason is Reason.NAME_TAKEN


def test_a_message_that_contains_a_whole_object_is_shortened() -> None:
    found = refusal(422, f"{INVALID}spec.template: Invalid value: {'x' * 5000}: no")
    assert len(found.message) < WORDS_LIMIT + 300
    assert found.message.endswith("; retried automatically")


def test_a_claim_of_the_administrator_can_be_handed_over_and_a_policy_cannot() -> None:
    label = "kubectl -n demo label pvc subterra-store app.kubernetes.io/managed-by=subterra"
    assert label in name_taken(STORE).message
    assert "networkPolicies.enabled" in name_taken(POLICY).message
    assert name_taken(STORE).reason is Reason.NAME_TAKEN
