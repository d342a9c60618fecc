"""The chart grants what the operator uses, and nothing else; people get rights to its kinds and to nothing more."""

from collections import Counter

from subterra_operator.resources import KINDS, RECONCILED, WATCHED
from subterra_testkit.cluster.operator_rights import HEARTBEAT, LEASE, USED, Right, chart_roles, chart_rules, rights


def test_the_chart_grants_each_right_that_is_used_once_and_no_other() -> None:
    assert Counter(rights(chart_rules())) == Counter(list(USED))


def test_the_roles_of_heartbeat_and_lease_grant_what_is_used() -> None:
    roles = chart_roles()
    assert set(rights(roles["heartbeat"]["rules"])) == set(HEARTBEAT)
    assert set(rights(roles["lease"]["rules"])) == set(LEASE)


def test_every_watched_kind_may_be_listed_and_watched_and_every_status_written() -> None:
    watched = {Right(KINDS[kind].group, KINDS[kind].plural, verb) for kind in WATCHED for verb in ("list", "watch")}
    statuses = {Right(KINDS[kind].group, f"{KINDS[kind].plural}/status", "patch") for kind in RECONCILED}
    assert watched | statuses <= set(USED)


def test_nothing_of_people_is_deleted_by_the_operator() -> None:
    ours = {"compileruns", "deployments", "jobsets", "rayjobs", "httproutes", "inferencepools"}
    assert {right.resource for right in USED if "delete" in right.verb} == ours


def test_roles_of_people_add_the_kinds_of_subterra_and_nothing_else() -> None:
    roles = chart_roles()
    labels = {name: {key for key in roles[name]["metadata"]["labels"] if "aggregate-to" in key} for name in ("view", "edit")}
    to = "rbac.authorization.k8s.io/aggregate-to-"
    assert labels == {"view": {f"{to}view"}, "edit": {f"{to}edit", f"{to}admin"}}
    granted = {name: rights(roles[name]["rules"]) for name in labels}
    assert {right.group for found in granted.values() for right in found} == {"subterra.dev"}
    assert {right.verb for right in granted["view"]} == {"get", "list", "watch"}
    assert not [right for right in granted["edit"] if right.resource.endswith(("/status", "/finalizers"))]
