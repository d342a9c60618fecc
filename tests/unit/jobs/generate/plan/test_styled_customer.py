"""Customers of procedures with a `style`: independent attributes, the evaluation's difficulties, values that change in time."""

from collections import Counter
from functools import cache
from itertools import combinations
from typing import get_args

import pytest
from scipy.stats import chi2_contingency

from subterra_api.digest import procedure_digest
from subterra_api.job_contract.messages import Generation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec, Style
from subterra_jobs.evaluate.scenarios.customer_profiles import ChallengeKind as EvaluatedKind
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.customer_style import STYLES
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.plan.styled_customer import CHALLENGE_SHARE, CHALLENGES, MANNERS, TWIST_SHARE
from subterra_testkit.runs.generation_inputs import travel

HOSTED = Provider(name="anthropic", model="m")


@cache
def plan(teacher: Provider = HOSTED, *, styled: bool = True, personas: bool = True) -> tuple[ConversationSpec, ...]:
    spec = travel().model_copy(update={"style": Style() if styled else None} | ({} if personas else {"personas": ()}))
    return tuple(plan_conversations(spec, Generation(teacher=teacher, conversations=800, seeds=(42,), held_out_percent=10)))


def attributes(planned: ConversationSpec) -> dict[str, object]:
    customer = planned.customer
    return {
        "persona": customer.persona,
        "style": customer.style,
        "twist": customer.twist is not None,
        "challenge": customer.challenge is not None,
    }


INDEPENDENT = [*combinations(["persona", "style", "challenge"], 2), ("persona", "twist"), ("style", "twist")]
"""A customer with a challenge has no twist."""


@pytest.mark.parametrize("pair", INDEPENDENT, ids="-".join)
def test_attributes_of_a_customer_are_independent(pair: tuple[str, str]) -> None:
    counts = Counter(tuple(attributes(planned)[name] for name in pair) for planned in plan())
    rows, columns = ({key[side] for key in counts} for side in (0, 1))
    table = [[counts[row, column] for column in sorted(columns, key=str)] for row in sorted(rows, key=str)]
    assert chi2_contingency(table).pvalue > 0.01


def test_each_persona_has_twists_and_each_style_has_them() -> None:
    for name in ("persona", "style"):
        everybody = {attributes(planned)[name] for planned in plan()}
        assert {attributes(planned)[name] for planned in plan() if planned.customer.twist} == everybody


def test_a_persona_has_a_manner_that_contradicts_none_and_a_customer_without_one_a_general_style() -> None:
    assert {planned.customer.style for planned in plan()} == set(MANNERS)
    assert {planned.customer.style for planned in plan(personas=False)} == set(STYLES)


def test_training_has_the_challenges_of_the_evaluation_about_equally_often() -> None:
    assert set(CHALLENGES) == set(get_args(EvaluatedKind))
    kinds = Counter(planned.customer.challenge.kind for planned in plan() if planned.customer.challenge)
    assert set(kinds) == set(CHALLENGES)
    assert kinds.total() / len(plan()) == pytest.approx(CHALLENGE_SHARE, abs=0.04)
    twisted = [planned for planned in plan() if planned.customer.twist]
    assert len(twisted) / len(plan()) == pytest.approx(TWIST_SHARE, abs=0.03)
    assert not any(planned.customer.challenge for planned in twisted)


def test_nobody_says_early_what_the_agent_asks_next_and_no_greeting_stands_twice() -> None:
    assert {planned.customer.twist.kind for planned in plan() if planned.customer.twist} == {"digression", "correction"}
    assert not any(planned.customer.greeted for planned in plan())


def test_who_changes_their_mind_has_another_value_until_then() -> None:
    changes = [planned for planned in plan() if planned.customer.challenge and planned.customer.challenge.kind == "change of mind"]
    assert changes
    for planned in changes:
        challenge = planned.customer.challenge
        assert challenge is not None
        assert planned.values_at(challenge.position) == planned.values
        before = planned.values_at(challenge.position - 1)
        assert before[challenge.about] == challenge.other != planned.values[challenge.about]
        assert {name for name in before if before[name] != planned.values[name]} == {challenge.about}


def test_only_what_was_said_is_changed_or_contradicted() -> None:
    """A customer who knows no destination yet has none to change."""
    for planned in plan():
        challenge = planned.customer.challenge
        if challenge is not None and challenge.about in ("destination", "dates", "travellers"):
            said = list(zip(planned.path, planned.path[1:], strict=False))[: challenge.position]
            assert ("trip", "ask_budget") in said or ("trip", "options") in said


def test_the_scripted_teachers_plan_does_not_depend_on_the_style() -> None:
    assert plan(Provider()) == plan(Provider(), styled=False)


def test_a_style_is_another_procedure_and_none_is_the_one_from_before() -> None:
    plain = travel()
    assert procedure_digest(plain) == procedure_digest(ProcedureSpec.model_validate(plain.dump()))
    assert "style" not in plain.dump()
    assert procedure_digest(plain.model_copy(update={"style": Style()})) != procedure_digest(plain)
