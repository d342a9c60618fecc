"""`subterra judge bias` over the wire: a judge who rewards length or its own name is found out, and a fair one is not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from subterra_api.v1alpha1.compilerun import Provider
from subterra_cli.main import app
from subterra_core.judge_certification.bias_pairs import AFTER, OTHER_MODEL
from subterra_jobs.evaluate.judge.llm_judge import judge_fingerprint
from subterra_jobs.evaluate.judge.results import NATURAL
from subterra_jobs.evaluate.report.report import write_report
from subterra_testkit.repository import EXAMPLES
from subterra_testkit.runs.evaluation_runs import SONNET, fake_provider
from subterra_testkit.runs.judgements import first_user_message, judging_answer
from subterra_testkit.runs.reports import evaluated, single
from subterra_testkit.servers.fake_llm_api import BAD_KEY, FakeLLMApi

TRAVEL = str(EXAMPLES / "travel" / "procedure.yaml")
FINGERPRINT = judge_fingerprint(Provider.model_validate(SONNET))
Score = Callable[[str, dict[str, Any]], int]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of an evaluation with 20 scenarios."""
    folder = tmp_path_factory.mktemp("report")
    write_report(folder, evaluated(single(20), {}))
    return folder


def agent_file(folder: Path, **judges: Any) -> Path:
    made = {
        "apiVersion": "subterra.dev/v1alpha1",
        "kind": "CompiledAgent",
        "metadata": {"name": "travel"},
        "spec": {"compile": {"procedureRef": {"name": "travel"}, "template": {"evaluation": judges}}},
    }
    file = folder / "agent.yaml"
    file.write_text(yaml.safe_dump(made))
    return file


def bias(report: Path, folder: Path, *options: str, **judges: Any) -> Result:
    file = agent_file(folder, **(judges or {"judge": SONNET}))
    words = ["judge", "bias", str(report), "--procedure", TRAVEL, "--agent", str(file), "-o", str(folder / "bias.json"), *options]
    return CliRunner().invoke(app, words)


def measured(report: Path, folder: Path, score: Score) -> tuple[Result, dict[str, tuple[int, int, int]], FakeLLMApi]:
    with fake_provider(FakeLLMApi(answer=lambda body: judging_answer(body, score))) as api:
        result = bias(report, folder, "-n", "8")
    assert result.exit_code == 0, result.output
    rows = json.loads((folder / "bias.json").read_text())
    assert {row["judge"] for row in rows} == {FINGERPRINT}
    return result, {row["kind"]: (row["higher"], row["lower"], row["of"]) for row in rows}, api


def test_a_fair_judge_moves_nothing_and_each_form_is_asked_once(report: Path, tmp_path: Path) -> None:
    result, found, api = measured(report, tmp_path, lambda _, body: 4)
    assert found == dict.fromkeys(("repetition", "order", "verbosity", "formatting", "otherName", "ownName"), (0, 0, 8))
    assert "without a reason" not in result.output
    assert len(api.bodies) == 8 * 7 * 2


def test_a_judge_who_rewards_length_is_found_out(report: Path, tmp_path: Path) -> None:
    result, found, _ = measured(report, tmp_path, lambda _, body: 5 if AFTER in first_user_message(body) else 4)
    assert found.pop("verbosity") == (8, 0, 8)
    assert set(found.values()) == {(0, 0, 8)}
    [line] = [line for line in result.output.splitlines() if "without a reason" in line]
    assert line.split()[:2] == [FINGERPRINT, "verbosity"]
    assert line.endswith("scores are higher without a reason")


def test_a_judge_who_prefers_its_own_name_is_found_out(report: Path, tmp_path: Path) -> None:
    own = f"This is {SONNET['model']}."
    _, found, _ = measured(report, tmp_path, lambda _, body: 5 if own in first_user_message(body) else 4)
    assert found["ownName"] == (8, 0, 8)
    assert found["otherName"] == (0, 0, 8)


def test_a_judge_who_punishes_every_name_prefers_none(report: Path, tmp_path: Path) -> None:
    _, found, _ = measured(report, tmp_path, lambda _, body: 2 if "This is " in first_user_message(body) else 4)
    assert found["otherName"] == (0, 8, 8)
    assert found["ownName"] == (0, 0, 8)
    assert OTHER_MODEL not in SONNET["model"]


def test_a_judge_who_goes_by_the_place_of_a_criterion_is_found_out(report: Path, tmp_path: Path) -> None:
    def by_the_first_criterion(name: str, body: dict[str, Any]) -> int:
        schema = body["output_config"]["format"]["schema"]["properties"]
        return 5 if next(iter(schema)) == NATURAL else 4

    _, found, _ = measured(report, tmp_path, by_the_first_criterion)
    assert found["order"] == (8, 0, 8)


def test_the_counts_go_into_the_certificate_of_these_judges_only(report: Path, tmp_path: Path) -> None:
    measured(report, tmp_path, lambda _, body: 4)
    rows = [{"id": f"c{n}", "scores": {"taskSuccess": 2 if n < 100 else 5}} for n in range(300)]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def calibrate(fingerprint: str) -> Result:
        known = {
            row["id"]: {"challenged": True, "flagged": n < 100, "weight": 1.0, "judges": [row["scores"]]}
            for n, row in enumerate(rows)
        }
        judges, population = [{"name": "model", "fingerprint": fingerprint}], {"flagged": 100, "others": 200}
        key = {"format": 1, "judges": judges, "population": population, "conversations": known}
        (tmp_path / "key.json").write_text(json.dumps(key))
        words = ["judge", "calibrate", "labels.jsonl", "--key", "key.json", "--certificate", "c.yaml", "--bias", "bias.json"]
        return CliRunner().invoke(app, [str(tmp_path / word) if "." in word else word for word in words])

    assert calibrate(FINGERPRINT).exit_code == 0
    [certificate] = yaml.safe_load((tmp_path / "c.yaml").read_text())["judgeCertificates"]
    assert {row["kind"]: row["of"] for row in certificate["biases"]} == dict.fromkeys(
        ("repetition", "order", "verbosity", "formatting", "otherName", "ownName"), 8
    )
    stranger = calibrate("0123456789ab")
    assert (stranger.exit_code, "is not a judge of this sheet" in stranger.output) == (2, True)


def test_a_refused_key_is_named_without_words_about_runs(report: Path, tmp_path: Path) -> None:
    with fake_provider(FakeLLMApi(answer=judging_answer, after=(0, BAD_KEY))):
        refused = bias(report, tmp_path, "-n", "2")
    without = bias(report, tmp_path)
    for result in (refused, without):
        assert result.exit_code == 2
        assert "ANTHROPIC_API_KEY" in result.output
        assert "annotation" not in result.output
        assert "Secret" not in result.output


def test_the_cap_ends_it_and_rules_have_no_preferences(report: Path, tmp_path: Path) -> None:
    with fake_provider(FakeLLMApi(answer=judging_answer)):
        capped = bias(report, tmp_path, "-n", "8", "--max-usd", "0.0001")
    assert (capped.exit_code, "raise --max-usd" in capped.output) == (2, True)
    assert not (tmp_path / "bias.json").exists()
    scripted = bias(report, tmp_path, judge={"name": "scripted"})
    assert (scripted.exit_code, "rules have no preferences" in scripted.output) == (2, True)
