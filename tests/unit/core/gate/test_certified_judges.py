"""Where the policy demands certified judges, only a certificate that holds for them lets a candidate pass."""

from typing import Any

import pytest
from tests.unit.core.gate.test_verdict import compared, scores

from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_api.v1alpha1.scores import JudgeReliability, Verdict
from subterra_core.gate.verdict import judge

JUDGES = ("aaaaaaaaaaaa", "bbbbbbbbbbbb")
CERTIFICATE = {
    "judges": JUDGES,
    "language": "en",
    "sensitivity": 0.83,
    "specificity": 0.95,
    "conversations": 300,
    "labels": "sha256:" + "1" * 64,
}
OTHERS = CERTIFICATE | {"judges": ("cccccccccccc", "dddddddddddd"), "labels": "sha256:" + "2" * 64}


def decided(*certificates: dict[str, Any], judges: tuple[str, ...] | None = JUDGES, **policy: Any) -> Verdict:
    found = scores(compared())
    assert found.statistics is not None
    judging = None if judges is None else JudgeReliability(kappa=0.8, disagreement=0.3, fingerprints=judges)
    statistics = found.statistics.model_copy(update={"judging": judging})
    demand = {"requireCertifiedJudge": True, "judgeCertificates": certificates} | policy
    return judge(found.model_copy(update={"statistics": statistics}), GatePolicy.model_validate(demand))


def test_a_certificate_of_these_judges_lets_a_candidate_pass() -> None:
    assert decided(CERTIFICATE).result == "Pass"
    assert decided(OTHERS, CERTIFICATE | {"judges": JUDGES[::-1]}).result == "Pass"


def test_nothing_is_demanded_by_default_or_where_rules_judge() -> None:
    assert decided(requireCertifiedJudge=False).result == "Pass"
    assert decided(judges=None).result == "Pass"


@pytest.mark.parametrize(
    ("certificates", "policy", "words"),
    [
        ((), {}, "gate.judgeCertificates is empty; have people score a sheet (`subterra judge sheet`), and put what"),
        ((OTHERS,), {}, "has certificates of others only; another model, rubric or sampling is another judge"),
        ((CERTIFICATE | {"judges": JUDGES[:1]},), {}, "has certificates of others only"),
        ((CERTIFICATE,), {"language": "de"}, "the certificate is for conversations in en, and gate.language is de"),
        ((CERTIFICATE | {"sensitivity": 0.79},), {}, "sensitivity is at least 79.0%, but 80% is needed"),
        ((CERTIFICATE | {"specificity": 0.5},), {}, "specificity is at least 50.0%, but 80% is needed"),
        (
            (CERTIFICATE, OTHERS | {"labels": CERTIFICATE["labels"]}),
            {},
            "the same people's scores stand in the certificate of other",
        ),
    ],
)
def test_a_certificate_that_does_not_hold_is_inconclusive_with_cause_and_fix(
    certificates: tuple[dict[str, Any], ...], policy: dict[str, Any], words: str
) -> None:
    verdict = decided(*certificates, **policy)
    assert verdict.result == "Inconclusive"
    [reason] = verdict.reasons
    assert reason.startswith("the judges aaaaaaaaaaaa and bbbbbbbbbbbb are not certified: ")
    assert words in reason


def test_one_certificate_that_holds_is_enough() -> None:
    assert decided(CERTIFICATE | {"sensitivity": 0.5}, CERTIFICATE | {"labels": OTHERS["labels"]}).result == "Pass"


def test_scores_that_do_not_name_their_judges_are_inconclusive() -> None:
    [reason] = decided(CERTIFICATE, judges=()).reasons
    assert reason == "gate.requireCertifiedJudge: the scores do not say which judges gave them; evaluate again"


def test_a_clear_failure_needs_no_certificate() -> None:
    found = scores(compared())
    worse = found.model_copy(update={"statistics": scores(compared(failures=(80, 2))).statistics})
    assert judge(worse, GatePolicy(require_certified_judge=True)).result == "Fail"
