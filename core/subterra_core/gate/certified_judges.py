"""Whether the judges of an evaluation are certified, where the policy demands it."""

from collections.abc import Iterator

from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_api.v1alpha1.judging import JudgeCertificate
from subterra_api.v1alpha1.scores import Statistics
from subterra_core.judge_certification.certificate import LEAST_BOUND

FIELD = "gate.judgeCertificates"
_HOW = (
    f"have people score a sheet (`subterra judge sheet`), and put what `subterra judge calibrate --certificate` writes into {FIELD}"
)


def uncertified_judges(statistics: Statistics, policy: GatePolicy) -> Iterator[str]:
    """The reason why the judges are not certified; none where rules judge, or where the policy does not ask."""
    if policy.require_certified_judge and statistics.judging is not None:
        if not statistics.judging.fingerprints:
            yield "gate.requireCertifiedJudge: the scores do not say which judges gave them; evaluate again"
        else:
            yield from missing_certificate(statistics.judging.fingerprints, policy)


def missing_certificate(judges: tuple[str, ...], policy: GatePolicy) -> Iterator[str]:
    """The reason why no certificate of the policy holds for judges with these fingerprints."""
    named = f"the judges {' and '.join(judges)}" if len(judges) > 1 else f"the judge {judges[0]}"
    own = [each for each in policy.judge_certificates if sorted(each.judges) == sorted(judges)]
    if not own:
        others = "has certificates of others only; another model, rubric or sampling is another judge"
        others = others if policy.judge_certificates else "is empty"
        yield f"{named} {_are(judges)} not certified: {FIELD} {others}; {_HOW}"
        return
    problems = [_problem(each, policy) for each in own]
    if None not in problems:
        yield f"{named} {_are(judges)} not certified: {problems[-1]}"


def _are(judges: tuple[str, ...]) -> str:
    return "are" if len(judges) > 1 else "is"


def _problem(certificate: JudgeCertificate, policy: GatePolicy) -> str | None:
    """Why a certificate of these judges does not hold, with the fix."""
    if certificate.language != policy.language:
        return (
            f"the certificate is for conversations in {certificate.language}, and gate.language is {policy.language}; have people "
            "score conversations in that language"
        )
    for name, bound in (("sensitivity", certificate.sensitivity), ("specificity", certificate.specificity)):
        if bound < LEAST_BOUND:
            return (
                f"{name} is at least {bound:.1%}, but {LEAST_BOUND:.0%} is needed; have people score more conversations, or choose "
                "other judges"
            )
    if any(each.labels == certificate.labels and each.judges != certificate.judges for each in policy.judge_certificates):
        return (
            "the same people's scores stand in the certificate of other judges, so they chose among judges; keep one of the "
            "certificates, or have people score other conversations"
        )
    return None
