"""What the gate will be able to decide with an evaluation, before it is paid."""

from collections.abc import Iterator

from subterra_api.job_contract.defaults import evaluation_of
from subterra_api.job_contract.messages import Evaluation
from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_cli.files.manifests import CompileRequest
from subterra_core.gate.certified_judges import missing_certificate
from subterra_core.gate.expected_power import AIM, expected_power, least_scenarios, scenarios_for
from subterra_jobs.evaluate.judge.llm_judge import judge_fingerprint


def gate_outlook(request: CompileRequest) -> Iterator[str]:
    """Lines on what no candidate can pass, on the chance of an equal one where there is one, and on judges without certificate."""
    settings = evaluation_of(request.inputs.evaluation)
    if settings.scenarios < (least := least_scenarios(request.gate)):
        few = f"evaluation.scenarios is {settings.scenarios}, and with fewer than {least} nothing passes the gate"
        yield f"warning: {few}; raise it"
    if request.references:
        yield _power_line(settings.scenarios, request.gate)
    if request.gate.require_certified_judge and settings.judge.name != "scripted":
        yield from (f"warning: {problem}" for problem in missing_certificate(_fingerprints(settings), request.gate))


def _power_line(scenarios: int, policy: GatePolicy) -> str:
    chance = expected_power(policy, scenarios)
    said = f"with {scenarios:,} scenarios a candidate as good as what serves passes in about {chance:.0%} of evaluations"
    needed = scenarios_for(policy) if chance < AIM else None
    return f"{said}, with {needed:,} in {AIM:.0%}" if needed else said


def _fingerprints(settings: Evaluation) -> tuple[str, ...]:
    return tuple(judge_fingerprint(each) for each in (settings.judge, settings.second_judge) if each is not None)
