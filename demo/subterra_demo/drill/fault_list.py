"""The ten faults. Each is one that the demo's cluster can really have."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from subterra_core.hosted_models.catalog import hosted_models, retirement
from subterra_demo.drill import drill_manifests as manifests
from subterra_demo.drill import pod_scripts
from subterra_demo.drill.fault import Action, Fault, apply, delete, kubectl
from subterra_demo.steps import AGENT, NAMESPACE, RELEASE, SYSTEM_NAMESPACE

STORE_POD = "drill-store"
DEAR_USD_PER_HOUR = "5000"
_FLEET, _RUNS, _AGENT_BOARD = "subterra-fleet", "subterra-runs", "subterra-agent"
_SERVING = f"subterra.dev/agent={AGENT},app.kubernetes.io/component=serving"
_NODE_LABEL = "subterra.dev/drill"
_OF_AGENT = f'namespace="{NAMESPACE}", agent="{AGENT}"'


@dataclass(frozen=True)
class Site:
    """What the drill finds in the cluster."""

    node: str
    operators: int
    """Replicas of the operator."""
    deployment: str
    """Name of the Deployment with traffic."""
    template: Mapping[str, Any]
    """Its pod template."""
    model_path: str
    """Path of its model in the store."""
    usd_per_hour: str
    """The agent's `spec.cost.usdPerHour`."""
    today: date


def faults(site: Site) -> tuple[Fault, ...]:
    """All faults, in the order in which they are injected."""
    return (
        _operator_down(site),
        _node_drained(site),
        _model_damaged(site),
        _engine_hangs(site),
        _price_mistyped(site),
        _stage_without_a_node(site),
        _run_with_bad_input(),
        _run_without_quota(),
        _procedure_with_a_dead_end(),
        _model_that_retires(site.today),
    )


def _drop_pods(grace: int = 1) -> Action:
    return kubectl("delete", "pods", "-n", NAMESPACE, "-l", _SERVING, f"--grace-period={grace}", "--wait=false")


def _reason(metric: str, agent: str, reason: str, more: str = "") -> str:
    return f'{metric}{{namespace="{NAMESPACE}", agent="{agent}", reason="{reason}"{more}}}'


def _why_not_ready(reason: str) -> str:
    return _reason("subterra_compiledagent_condition_reason", AGENT, reason, ', condition="Ready"')


def _why_the_run(agent: str, reason: str) -> str:
    return _reason("subterra_compilerun_reason", agent, reason)


def _operator_down(site: Site) -> Fault:
    def scale(replicas: int) -> Action:
        return kubectl("scale", f"deployment/{RELEASE}", "-n", SYSTEM_NAMESPACE, f"--replicas={replicas}")

    ready = kubectl("rollout", "status", f"deployment/{RELEASE}", "-n", SYSTEM_NAMESPACE, "--timeout=240s")
    return Fault(
        "operator-down",
        "somebody scaled the operator to 0",
        "SubterraNoLeader",
        {},
        _FLEET,
        "absent(subterra_leader)",
        "*Leaders* is empty: no operator is scraped at all",
        "`kubectl scale deployment NAME --replicas=",
        (scale(0),),
        (scale(site.operators), ready),
        (scale(site.operators), ready),
    )


def _node_drained(site: Site) -> Fault:
    return Fault(
        "node-drained",
        "the only node was cordoned for maintenance, and its pods were evicted",
        "SubterraAgentDown",
        {"agent": AGENT},
        _FLEET,
        _why_not_ready("Unschedulable"),
        "`Ready` is False with reason `Unschedulable`",
        "`kubectl uncordon NODE`",
        (kubectl("cordon", site.node), _drop_pods()),
        (kubectl("uncordon", site.node),),
        (kubectl("uncordon", site.node),),
    )


def _in_store(site: Site, script: str) -> Action:
    return kubectl("exec", "-n", NAMESPACE, STORE_POD, "--", "python3", "-c", script, site.model_path)


def _model_damaged(site: Site) -> Fault:
    pod = apply(NAMESPACE, [manifests.text(manifests.store_pod(STORE_POD, site.template))])
    up = kubectl("wait", f"pod/{STORE_POD}", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=180s")
    restore = _in_store(site, pod_scripts.RESTORE)
    return Fault(
        "model-damaged",
        "one bit of the model's weights flipped in the store, and the pod was started again",
        "SubterraAgentDown",
        {"agent": AGENT},
        _FLEET,
        _why_not_ready("InitFailed"),
        "`Ready` is False with reason `InitFailed`",
        "copy the file back from a backup, then delete the pod",
        (pod, up, _in_store(site, pod_scripts.DAMAGE), _drop_pods()),
        (restore, _drop_pods()),
        (pod, up, restore, _in_store(site, pod_scripts.FORGET), delete(NAMESPACE, f"pod/{STORE_POD}")),
    )


def _engine_hangs(site: Site) -> Fault:
    def in_vllm(script: str) -> Action:
        return kubectl("exec", "-n", NAMESPACE, f"deployment/{site.deployment}", "-c", "vllm", "--", "python3", "-c", script)

    stands = (
        f"sum(vllm:num_requests_running{{{_OF_AGENT}}}) > 0 and sum(rate(subterra_serving_tokens_total{{{_OF_AGENT}}}[1m])) == 0"
    )
    return Fault(
        "engine-hangs",
        "vLLM's engine stands still while its HTTP server answers the health check (SIGSTOP)",
        "SubterraAgentHangs",
        {"agent": AGENT},
        _AGENT_BOARD,
        stands,
        "*Requests* are running, *Tokens per second* are 0, *Ready replicas* are as wanted",
        "`kubectl delete pod POD --grace-period=1`",
        (in_vllm(pod_scripts.STOP_ENGINE),),
        (_drop_pods(),),
        (in_vllm(pod_scripts.CONTINUE_ENGINE),),
    )


def _price_mistyped(site: Site) -> Fault:
    def price(usd: str) -> Action:
        change = f'{{"spec":{{"cost":{{"usdPerHour":"{usd}"}}}}}}'
        return kubectl("patch", f"compiledagent/{AGENT}", "-n", NAMESPACE, "--type=merge", "--patch", change)

    return Fault(
        "price-mistyped",
        f"the hourly price of the machine was mistyped as ${DEAR_USD_PER_HOUR}",
        "SubterraPriceAboveComparator",
        {"agent": AGENT},
        _AGENT_BOARD,
        f"subterra_compiledagent_usd_per_hour{{{_OF_AGENT}}} == {DEAR_USD_PER_HOUR}",
        f"*Hardware per hour* is ${float(DEAR_USD_PER_HOUR):,.2f}",
        "Correct `spec.cost.usdPerHour`",
        (price(DEAR_USD_PER_HOUR),),
        (price(site.usd_per_hour),),
        (price(site.usd_per_hour),),
    )


def _stage_without_a_node(site: Site) -> Fault:
    name = "drill-stuck"
    placed = manifests.agent(name, execution={"generate": {"nodeSelector": {_NODE_LABEL: "yes"}}})
    return Fault(
        "stage-without-a-node",
        "a stage asks for a node label that no node has",
        "SubterraStageStuck",
        {"agent": name},
        _RUNS,
        _why_the_run(name, "Unschedulable"),
        "the run is Generating with reason `Unschedulable`, and *Silence of running stages* grows",
        "`kubectl label node NODE NAME=VALUE`",
        (apply(NAMESPACE, map(manifests.text, (manifests.procedure(name), placed))),),
        (kubectl("label", "node", site.node, f"{_NODE_LABEL}=yes", "--overwrite"),),
        (kubectl("label", "node", site.node, f"{_NODE_LABEL}-"), _forget(name)),
    )


def _run_with_bad_input() -> Fault:
    name = "drill-failed"
    return Fault(
        "run-with-bad-input",
        "a procedure was applied in which one turn has no words for the teacher",
        "SubterraRunFailed",
        {"agent": name},
        _RUNS,
        _why_the_run(name, "InvalidInput"),
        "the run is Failed with reason `InvalidInput`",
        "correct the procedure or the settings that the message names, and apply them",
        (apply(NAMESPACE, map(manifests.text, (manifests.without_examples(name), manifests.agent(name)))),),
        (apply(NAMESPACE, [manifests.text(manifests.procedure(name))]),),
        (_forget(name),),
    )


def _run_without_quota() -> Fault:
    name = "drill-blocked"
    narrow, wide = manifests.quota(name, count__jobs_batch="0"), manifests.quota(name, count__jobs_batch="50")
    return Fault(
        "run-without-quota",
        "the namespace's ResourceQuota admits no further Job",
        "SubterraRunBlocked",
        {"agent": name},
        _RUNS,
        _why_the_run(name, "QuotaExceeded"),
        "the run is Blocked with reason `QuotaExceeded`",
        "raise the quota",
        (
            apply(NAMESPACE, [manifests.text(narrow)]),
            apply(NAMESPACE, map(manifests.text, (manifests.procedure(name), manifests.agent(name)))),
        ),
        (apply(NAMESPACE, [manifests.text(wide)]),),
        (_forget(name), delete(NAMESPACE, f"resourcequota/{name}")),
    )


def _procedure_with_a_dead_end() -> Fault:
    name = "drill-invalid"
    return Fault(
        "procedure-with-a-dead-end",
        "a new agent's procedure has an edge to a node that does not exist",
        "SubterraAgentStalled",
        {"agent": name},
        _FLEET,
        _reason("subterra_compiledagent_condition_reason", name, "InvalidProcedure", ', condition="Stalled"'),
        "`Stalled` is True with reason `InvalidProcedure`",
        "correct what the message lists",
        (apply(NAMESPACE, map(manifests.text, (manifests.with_a_dead_end(name), manifests.agent(name)))),),
        (apply(NAMESPACE, [manifests.text(manifests.procedure(name))]),),
        (_forget(name),),
    )


def _model_that_retires(today: date) -> Fault:
    name, (family, old, new) = "drill-retiring", retiring_model(today)

    def taught_by(model: str) -> str:
        teacher = {"name": family, "model": model}
        return manifests.text(manifests.agent(name, {"suspend": True}, generation={"teacher": teacher}))

    return Fault(
        "model-that-retires",
        f"an agent names {old} as its teacher",
        "SubterraModelRetiring",
        {"agent": name, "model": old},
        _FLEET,
        f'subterra_compiledagent_condition{{namespace="{NAMESPACE}", agent="{name}", condition="ModelRetirement", status="True"}}',
        "`ModelRetirement` is True",
        "Name another model in the agent",
        (apply(NAMESPACE, [manifests.text(manifests.procedure(name)), taught_by(old)]),),
        (apply(NAMESPACE, [taught_by(new)]),),
        (_forget(name),),
    )


def retiring_model(today: date) -> tuple[str, str, str]:
    """A provider, a model of it that retires within 60 days of ``today`` or has retired, and the model to use instead."""
    dated = [(model.family, found) for model in hosted_models() if (found := retirement(model, today)) is not None]
    family, found = next((each for each in dated if each[1].is_soon), None) or next(each for each in dated if each[1].is_over)
    return family, found.model, found.replacement


def _forget(name: str) -> Action:
    return delete(NAMESPACE, f"compiledagent/{name}", f"procedure/{name}")
