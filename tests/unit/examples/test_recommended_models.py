"""Examples and pages recommend only models that live on, by the dates in the list of models and a date that is passed in."""

from datetime import date, timedelta
from pathlib import Path

import yaml

from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_core.hosted_models.catalog import hosted_models
from subterra_core.provider_rules import model_family
from subterra_testkit.model_names import HISTORY, Recommendation, ends_too_soon, names_in, recommendations
from subterra_testkit.repository import ROOT

CHECKED = max(model.checked for model in hosted_models())
"""The day on which the list was last compared with the providers' pages."""


def test_what_is_recommended_lives_sixty_days_beyond_the_last_check_of_the_list() -> None:
    assert [problem for each in recommendations() if (problem := ends_too_soon(each, CHECKED))] == []


def test_the_example_with_hosted_models_names_some_and_its_judges_are_of_two_families() -> None:
    document = yaml.safe_load((ROOT / "examples/models/agent.yaml").read_text())
    source = CompiledAgentSpec.model_validate(document["spec"]).compile
    assert source is not None
    assert "examples/models/agent.yaml" in {each.file for each in recommendations()}
    evaluation = source.template.evaluation
    assert evaluation.second_judge is not None
    assert model_family(evaluation.judge) != model_family(evaluation.second_judge)


def test_a_model_that_ends_is_found_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/page.md").write_text("Use `gpt-6-luna`,\nor {model: gpt-4.1-2025-04-14}.\n")
    found = list(recommendations(tmp_path))
    assert found == [Recommendation("docs/page.md", 1, "gpt-6-luna"), Recommendation("docs/page.md", 2, "gpt-4.1-2025-04-14")]
    assert [ends_too_soon(each, date(2026, 11, 28)) for each in found] == [
        None,
        "docs/page.md:2: gpt-4.1-2025-04-14 lives until 2027-01-13 for certain; use gpt-6-luna",
    ]


def test_a_model_that_may_end_any_day_is_no_recommendation() -> None:
    last = date(2027, 2, 16)
    sonnet = Recommendation("a", 1, "claude-sonnet-4-6")
    assert ends_too_soon(sonnet, last - timedelta(days=60)) is None
    assert ends_too_soon(sonnet, last - timedelta(days=59)) is not None


def test_names_are_whole_words() -> None:
    assert [name for _, name in names_in("gpt-4.1, gpt-4.1-mini; gpt-4.10 my-gpt-4.1 gpt-4.1-huge (claude-sonnet-4-5).")] == [
        "gpt-4.1",
        "gpt-4.1-mini",
        "claude-sonnet-4-5",
    ]


def test_history_lists_only_what_pages_still_name() -> None:
    for file, names in HISTORY.items():
        assert names <= {name for _, name in names_in((ROOT / file).read_text())}, file
