"""Every right that the operator uses, with what it is for, and the chart's rules in the same form."""

import re
from typing import NamedTuple

import yaml

from subterra_operator.resources import Object
from subterra_testkit.repository import ROOT

TEMPLATES = ROOT / "charts/subterra/templates"


class Right(NamedTuple):
    """One verb of one resource."""

    group: str
    resource: str
    verb: str


def rights(rules: list[Object]) -> list[Right]:
    """The rights of a role's rules, one by one, as often as they are given."""
    return [
        Right(group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


def _named(group: str, resource: str, **uses: str) -> dict[Right, str]:
    return {Right(group, resource, verb): use for verb, use in uses.items()}


_WATCHED = {"list": "the census, and each watch before it begins", "watch": "changes reach the operator"}
_OURS = "subterra.dev"
_OF_ENFORCED_OWNERS = "owner references with blockOwnerDeletion, where the cluster enforces OwnerReferencesPermissionEnforcement"
USED: dict[Right, str] = {
    **_named(_OURS, "procedures", get="unchanged just before an input is frozen", **_WATCHED),
    **_named(_OURS, "compiledagents", get="unchanged just before a run is made or objects are deleted", **_WATCHED),
    **_named(
        *(_OURS, "compileruns"),
        get="unchanged just before a Job is made",
        create="server-side apply of a new run",
        patch="server-side apply, suspension, retry",
        delete="the history limit",
        **_WATCHED,
    ),
    **_named(_OURS, "procedures/status", patch="the status"),
    **_named(_OURS, "compileruns/status", patch="the status"),
    **_named(_OURS, "compiledagents/status", patch="the status"),
    **_named(_OURS, "compileruns/finalizers", update=_OF_ENFORCED_OWNERS),
    **_named(_OURS, "compiledagents/finalizers", update=_OF_ENFORCED_OWNERS),
    **_named("batch", "jobs", get="whose an existing Job is", create="a stage", patch="suspension", **_WATCHED),
    **_named(
        *("jobset.x-k8s.io", "jobsets"),
        get="whose an existing JobSet is",
        create="a training on several nodes",
        patch="suspension",
        delete="pods that did not start in time",
        **_WATCHED,
    ),
    **_named(
        *("ray.io", "rayjobs"),
        get="whose an existing RayJob is",
        create="a generation over several pods",
        patch="suspension",
        delete="pods that did not start in time",
        **_WATCHED,
    ),
    **_named(
        *("apps", "deployments"),
        get="ready just before traffic moves",
        create="a version",
        patch="replicas, failures, what others changed",
        delete="a version that is no longer kept",
        **_WATCHED,
    ),
    **_named("", "services", get="whose an existing Service is", create="the endpoint", patch="traffic moves", **_WATCHED),
    **_named(
        *("gateway.networking.k8s.io", "httproutes"),
        get="whose an existing route is",
        create="the route of an agent with a canary",
        patch="traffic moves in steps",
        delete="the route of an agent that no longer has a canary",
        **_WATCHED,
    ),
    **_named(
        *("inference.networking.k8s.io", "inferencepools"),
        get="whose an existing pool is",
        create="the pool of an agent that asks for one",
        patch="traffic moves",
        delete="the pool of an agent that no longer asks for one",
        **_WATCHED,
    ),
    **_named("", "configmaps", get="whose an existing input is", create="a run's frozen input", **_WATCHED),
    **_named("", "pods", **_WATCHED),
    **_named("", "events", list="why a pod could not be made"),
    **_named("", "persistentvolumeclaims", get="whose an existing claim is", create="the store"),
    **_named(
        *("networking.k8s.io", "networkpolicies"),
        get="unchanged by others",
        create="server-side apply of a new policy",
        patch="server-side apply",
    ),
    **_named(
        *("policy", "poddisruptionbudgets"),
        get="unchanged by others",
        create="server-side apply of a new budget",
        patch="server-side apply",
    ),
    **_named("kueue.x-k8s.io", "workloads", list="why a Job waits in its queue", patch="a suspended run leaves the queue"),
    **_named("events.k8s.io", "events", create="what happened", patch="what happened again"),
}
"""The rights in watched namespaces."""
HEARTBEAT = _named(
    *("", "configmaps"),
    get="a standby reads the leader's beat",
    create="the first beat",
    patch="each beat",
    list="the watch of beats",
    watch="the watch of beats",
)
LEASE = _named("coordination.k8s.io", "leases", get="who leads", create="the first lease", update="to lead and to renew")


def chart_rules() -> list[Object]:
    """The chart's rules for watched namespaces, without rendering it."""
    text = (TEMPLATES / "_helpers.tpl").read_text()
    found: list[Object] = yaml.safe_load(text.partition('define "subterra.rules" -}}')[2].partition("{{- end }}")[0])
    return found


def chart_roles() -> dict[str, Object]:
    """The chart's roles with rules of their own, by what follows the release's name."""
    lines = (TEMPLATES / "rbac.yaml").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("{{"))
    text = re.sub(r"\{\{.*?\}\}", "x", re.sub(r"\{\{- include .*?\}\}", "", text))
    documents = yaml.safe_load_all(text)
    roles = [document for document in documents if document and document["kind"] in ("Role", "ClusterRole")]
    return {role["metadata"]["name"].removeprefix("x-"): role for role in roles if role.get("rules")}
