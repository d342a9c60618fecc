"""What stands between an object and the API server, each for real: a webhook over HTTPS, a LimitRange, RBAC.

All words that run and agent must repeat come from the API server itself.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from subterra_operator.decide.agent.rollout import KEEP_SECONDS
from subterra_operator.kube.api_client import ApiError
from subterra_operator.kube.event_recorder import REPORTER
from subterra_operator.resources import KINDS, Object
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, edited
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, condition
from subterra_testkit.cluster.refused_agents import agent, demand_nothing, of_a_model, refused, stalled_agent, starts
from subterra_testkit.servers.admission_webhook import AdmissionWebhook, serving

WORDS = "Jobs need the label team"
NAME = "jobs.example.com"
RESOURCES = {"batch": "jobs", "apps": "deployments", "": "persistentvolumeclaims"}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subterra_operator.controller.REFUSED_RETRY_SECONDS", 2.0)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdmissionWebhook]:
    with serving(tmp_path_factory.mktemp("webhook")) as webhook:
        yield webhook


def configuration(world: ClusterNamespace, webhook: AdmissionWebhook, patience: int = 30) -> Object:
    """A configuration that asks the webhook about what is created in this namespace; ``patience`` is in seconds."""
    rules = [
        {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [plural]}
        for group, plural in RESOURCES.items()
    ]
    client = {"url": webhook.url, "caBundle": base64.b64encode(webhook.authority).decode()}
    here = {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}
    asked: Object = {"name": NAME, "clientConfig": client, "rules": rules, "namespaceSelector": here, "timeoutSeconds": patience}
    asked |= {"sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail"}
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
    return {**head, "metadata": {"name": world.namespace}, "webhooks": [asked]}


@pytest.fixture
async def webhook(world: ClusterNamespace, served: AdmissionWebhook) -> AsyncIterator[AdmissionWebhook]:
    """The webhook, asked about Jobs, Deployments and claims of this namespace."""
    served.words, served.code, served.seconds = "not yet", None, 0.0
    await world.put(configuration(world, served), namespaced=False)
    await world.until(lambda: denies(world, "not yet"), "the API server asks the webhook", 60)
    served.words = ""
    yield served
    await world.api._call("DELETE", KINDS["ValidatingWebhookConfiguration"].path(None, world.namespace))


async def denies(world: ClusterNamespace, words: str) -> bool:
    """Whether a new claim would be denied in these words."""
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "probe"}, "spec": spec}
    try:
        await world.api._call("POST", KINDS["PersistentVolumeClaim"].path(world.namespace), claim, query={"dryRun": "All"})
    except ApiError as error:
        return words in error.message
    return False


@pytest.mark.parametrize("code", [None, 403, 409, 422], ids=["no code", "403", "409", "422"])
async def test_a_webhook_that_denies_is_named_with_its_words_and_when_it_admits_the_run_starts(
    world: ClusterNamespace, webhook: AdmissionWebhook, code: int | None
) -> None:
    webhook.words, webhook.code = WORDS, code
    await world.put(TRAVEL)
    await world.put(agent())
    label = "objects with the label app.kubernetes.io/managed-by=subterra"
    await refused(world, "AdmissionDenied", f'admission webhook "{NAME}" denied the request: {WORDS}', f"exempt {label}", NAME)
    webhook.words = ""
    await starts(world)


async def test_a_webhook_that_denies_a_deployment_is_named_by_the_agent_that_wants_it(
    world: ClusterNamespace, webhook: AdmissionWebhook
) -> None:
    webhook.words = "no Deployments today"
    await world.put(of_a_model())
    await stalled_agent(world, "AdmissionDenied", "denied the request: no Deployments today", f"admission webhook {NAME}")
    webhook.words = ""
    await world.up_to_date()


async def test_a_webhook_that_does_not_answer_in_time_is_to_be_restored(world: ClusterNamespace, webhook: AdmissionWebhook) -> None:
    webhook.seconds = 3.0
    await world.put(configuration(world, webhook, patience=1), namespaced=False)
    await world.until(lambda: denies(world, "failed calling webhook"), "the API server waits for a second", 60)
    await world.put(TRAVEL)
    await world.put(agent())
    await refused(world, "AdmissionDenied", f'failed calling webhook "{NAME}"', f"restore the service of webhook {NAME}")
    webhook.seconds = 0.0
    await world.put(configuration(world, webhook), namespaced=False)
    await starts(world)


async def test_a_webhook_whose_service_is_away_is_to_be_restored(
    world: ClusterNamespace, webhook: AdmissionWebhook, unused_tcp_port: int
) -> None:
    there, url = configuration(world, webhook), f"https://127.0.0.1:{unused_tcp_port}/"
    client = {**there["webhooks"][0]["clientConfig"], "url": url}
    await world.put({**there, "webhooks": [{**there["webhooks"][0], "clientConfig": client}]}, namespaced=False)
    await world.until(lambda: denies(world, "connection refused"), "the API server asks where nobody is", 60)
    await world.put(TRAVEL)
    await world.put(agent())
    await refused(world, "AdmissionDenied", f'failed calling webhook "{NAME}"', "connection refused", f"service of webhook {NAME}")
    await world.put(there, namespaced=False)
    await starts(world)


def limits(kind: str, **largest: str) -> Object:
    """A LimitRange with these maxima for a kind."""
    spec = {"limits": [{"type": kind, "max": largest}]}
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"}, "spec": spec}


async def test_a_limit_range_that_forbids_the_store_is_named_and_nothing_is_written_while_it_lasts(world: ClusterNamespace) -> None:
    await world.put(limits("PersistentVolumeClaim", storage="1Gi"))
    await world.put(TRAVEL)
    await world.put(agent())
    fix = f"change the LimitRange (kubectl -n {world.namespace} describe limitrange) or correct store.size in the chart's values"
    run = await refused(world, "Refused", "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 20Gi", fix)
    before = await written(world)
    await asyncio.sleep(6)  # three of the shortened pauses between tries
    assert await written(world) == before, "the same refusal is written once"
    assert [event["reason"] for event in await events(world, run)].count("Refused") == 1
    await world.put(limits("PersistentVolumeClaim", storage="100Gi"))
    await starts(world)


async def written(world: ClusterNamespace) -> dict[str, str]:
    """The version of each of our resources."""
    found = [obj for kind in ("Procedure", "CompileRun", "CompiledAgent") for obj in await world.all(kind)]
    return {f"{obj['kind']} {obj['metadata']['name']}": obj["metadata"]["resourceVersion"] for obj in found}


async def events(world: ClusterNamespace, about: Object) -> list[Any]:
    """The operator's Events about an object."""
    page = await world.api._call("GET", KINDS["Event"].path(world.namespace))
    own = [item for item in page["items"] if item["reportingController"] == REPORTER]
    return [item for item in own if item["regarding"]["uid"] == about["metadata"]["uid"]]


async def keep_deployments(world: ClusterNamespace, probe: str) -> str:
    """Has a policy refuse the deletion of Deployments in this namespace; the name of the policy."""
    name, head = f"keep-deployments-{world.namespace}", {"apiVersion": "admissionregistration.k8s.io/v1"}
    rules = [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["deployments"]}]
    spec: Object = {"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": "false", "message": "ask first"}]}
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}}
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": here}
    for kind, content in (("ValidatingAdmissionPolicy", spec), ("ValidatingAdmissionPolicyBinding", binding)):
        await world.put({**head, "kind": kind, "metadata": {"name": name}, "spec": content}, namespaced=False)

    async def denied() -> bool:
        try:
            await world.api._call("DELETE", KINDS["Deployment"].path(world.namespace, probe), {}, query={"dryRun": "All"})
        except ApiError as error:
            return "ask first" in error.message
        return False

    await world.until(denied, "the policy is in force", 60)
    return name


async def test_a_policy_against_deletions_is_named_and_the_agent_goes_on(world: ClusterNamespace) -> None:
    second = edited("You are a very helpful travel booking assistant.")
    await world.put(TRAVEL)
    await world.put(agent(promotion={"keepWarmSeconds": 0}))
    old = f"travel-{(await world.up_to_date())['status']['serving']['version']}"
    policy = await keep_deployments(world, old)
    await world.put(second)
    await world.up_to_date(procedure=second)
    with world.clock.ahead(2 * KEEP_SECONDS):
        await world.touch("CompiledAgent", "travel")
        found = await world.condition("CompiledAgent", "travel", "UpToDate", "False", "AdmissionDenied")
        text = condition(found, "UpToDate")["message"]
        assert f"the deletion of Deployment {world.namespace}/{old} was refused" in text and "ask first" in text
        assert f"kubectl get validatingadmissionpolicy {policy}" in text
        assert condition(found, "Ready")["status"] == "True"
        await demand_nothing(world, policy)
        await world.up_to_date(procedure=second)

        async def gone() -> bool:
            return await world.get("Deployment", old) is None

        await world.until(gone, "the old version is deleted")
