"""How often an evaluation of some size lets through a candidate that is exactly as good as what serves.

The gate's checks are taken as independent, which is cautious: it is up to eleven points too low where few scenarios decide, and two
where it matters. What scores vary by is that of `bench/gate`: a standard deviation of 0.84, versions that correlate by 0.25, 8 %
failures, 95 % that follow the procedure. A test compares the result with the simulation.
"""

import math
from statistics import NormalDist

from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_core.gate.attempts import ALPHA, alpha_for_attempt
from subterra_core.gate.bounds import z_quantile
from subterra_core.gate.check_result import MIN_SAMPLE

AIM = 0.8
"""Chance of an equal candidate that an evaluation should have."""
CHALLENGED = 0.5
"""Share of scenarios with a challenge, which alone show Graceful Handling."""
MOST = 5000
"""Highest `evaluation.scenarios`."""
_CRITERION_SD, _FAILURE_SD, _CONFORMANCE_SD = 0.97, 0.37, 0.31
"""Standard deviations of the paired differences."""
_STEP = 10


def least_scenarios(policy: GatePolicy) -> int:
    """The scenarios without which no candidate passes, however good it is."""
    return max(policy.min_scenarios, MIN_SAMPLE)


def expected_power(policy: GatePolicy, scenarios: int, attempt: int = 1) -> float:
    """Chance that a candidate as good as the serving version passes; 0 with fewer than `least_scenarios`."""
    if scenarios < least_scenarios(policy):
        return 0.0
    level = alpha_for_attempt(ALPHA, attempt)
    criterion = _shown(policy.margin, _CRITERION_SD, scenarios, level)
    graceful = _shown(policy.margin, _CRITERION_SD, round(scenarios * CHALLENGED), level)
    failures = _shown(policy.failure_margin, _FAILURE_SD, scenarios, level)
    conformance = _shown(policy.conformance_margin, _CONFORMANCE_SD, scenarios, level)
    return float(criterion**4 * graceful * failures * conformance)


def scenarios_for(policy: GatePolicy, power: float = AIM, attempt: int = 1) -> int | None:
    """Smallest number of scenarios, in tens, with which an equal candidate has this chance; `None` if no allowed number has."""
    sizes = range(least_scenarios(policy), MOST + 1, _STEP)
    return next((size for size in sizes if expected_power(policy, size, attempt) >= power), None)


def _shown(margin: float, sd: float, values: int, level: float) -> float:
    """Chance that the bound of a difference of 0 stays within the margin."""
    return NormalDist().cdf(margin * math.sqrt(values) / sd - z_quantile(1 - level))
