"""``subterra judge``: people score blindly, and their scores certify a judge or name every line that is wrong."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_api.v1alpha1.scores import JudgeReliability, Proportion, Statistics
from subterra_cli.main import app
from subterra_core.gate.certified_judges import uncertified_judges
from subterra_jobs.evaluate.judge.results import CRITERIA, TASK
from subterra_jobs.evaluate.report.report import write_report
from subterra_testkit.repository import ROOT
from subterra_testkit.runs.reports import evaluated, paired

Scores = dict[str, float]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report with five arms, two judges, and so few failures that no bound can reach the default."""
    folder = tmp_path_factory.mktemp("report")
    write_report(folder, evaluated(paired(), {}))
    return folder


def judge(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["judge", *map(str, words)])


def sheet(report: Path, file: Path, *words: str) -> Result:
    result = judge("sheet", report, "-o", file, *words)
    assert result.exit_code == 0, result.output
    return result


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def key_of(file: Path) -> dict[str, Any]:
    key: dict[str, Any] = json.loads(file.with_name(f"{file.stem}-key.json").read_text())
    return key


def scored(file: Path, people: Callable[[dict[str, Any]], Scores]) -> Path:
    """The sheet with the scores that people give to what the key has."""
    known, rows = key_of(file)["conversations"], lines(file)
    filled = file.with_name("filled.jsonl")
    filled.write_text("".join(json.dumps(row | {"scores": people(known[row["id"]])}) + "\n" for row in rows))
    return filled


def as_judged(conversation: dict[str, Any]) -> Scores:
    return {name: sum(scores[name] for scores in conversation["judges"]) / len(conversation["judges"]) for name in CRITERIA}


def own_file(folder: Path, *rows: object) -> Path:
    file = folder / "own.jsonl"
    file.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return file


def row(number: int, people: object, given: object) -> dict[str, object]:
    return {"id": f"c{number}", "scores": {TASK: people}, "judges": [{TASK: given}]}


def test_a_sheet_says_nothing_of_arms_scenarios_and_judges(report: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    sheet(report, file, "--conversations", "60", "--procedure", str(ROOT / "examples/travel/procedure.yaml"))
    rows = lines(file)
    assert len(rows) == 60
    assert {frozenset(row) for row in rows} == {frozenset({"id", "customer", "turns", "scores"})}
    assert all(set(row["scores"].values()) == {None} for row in rows)
    assert {speaker for row in rows for turn in row["turns"] for speaker in turn if speaker not in ("speaker", "text")} == set()
    key = key_of(file)
    assert len({one["arm"] for one in key["conversations"].values()}) > 1
    hidden = {one["scenario"] for one in key["conversations"].values()} | {one["fingerprint"] for one in key["judges"]}
    assert not [secret for secret in hidden if secret in file.read_text()]
    guide = (tmp_path / "labels-guide.md").read_text()
    assert "## Task Success (`taskSuccess`)" in guide
    assert "The conversation begins at greet." in guide


def test_failures_are_drawn_more_often_and_the_key_has_the_weights(report: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    sheet(report, file, "--conversations", "60")
    key = key_of(file)
    drawn, population = list(key["conversations"].values()), key["population"]
    flagged = [one for one in drawn if one["flagged"]]
    assert all(one["flagged"] == any(scores[TASK] <= 3 for scores in one["judges"]) for one in drawn)
    assert len(flagged) / len(drawn) > population["flagged"] / (population["flagged"] + population["others"])
    assert sum(one["weight"] for one in flagged) == pytest.approx(population["flagged"])
    assert sum(one["weight"] for one in drawn) == pytest.approx(population["flagged"] + population["others"])


def test_the_seed_decides_the_sheet(report: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.jsonl", "b.jsonl", "c.jsonl")]
    for file, seed in zip(files, ("1", "1", "2"), strict=True):
        sheet(report, file, "--conversations", "40", "--seed", seed)
    first, second, other = (file.read_text() for file in files)
    assert first == second != other


def test_what_may_have_scores_is_never_overwritten(report: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    sheet(report, file, "--conversations", "40")
    before = file.read_text()
    again = judge("sheet", report / "report.html", "-o", file)
    assert again.exit_code == 2
    assert "exists and may have scores" in again.output
    assert file.read_text() == before


def test_a_folder_without_an_evaluation_is_an_error(tmp_path: Path) -> None:
    missing = judge("sheet", tmp_path, "-o", tmp_path / "labels.jsonl")
    assert (missing.exit_code, "pass the folder of a finished evaluation's report" in missing.output) == (2, True)
    (tmp_path / "transcripts.jsonl").write_text('{"judgements": []}\n')
    broken = judge("sheet", tmp_path, "-o", tmp_path / "labels.jsonl")
    assert (broken.exit_code, "is not what an evaluation writes" in broken.output) == (2, True)


def test_a_judge_who_scores_as_people_do_is_certified(report: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    sheet(report, file)
    words = ("calibrate", scored(file, as_judged), "--key", tmp_path / "labels-key.json", "--min-sensitivity", "0.1")
    result = judge(*words, "--json")
    found = json.loads(result.output)
    deciding = next(one for one in found["judges"] if one["deciding"])
    assert (result.exit_code, found["certified"], len(found["judges"])) == (0, True, 3)
    assert (deciding["name"], deciding["sensitivity"]["share"], deciding["specificity"]["share"]) == (
        "mean of the judges",
        1.0,
        1.0,
    )
    assert {name: agreement["kappa"] for name, agreement in deciding["agreement"].items()} == pytest.approx(
        dict.fromkeys(CRITERIA, 1.0)
    )
    assert found == json.loads(judge(*words, "-o", "json").output)


def test_a_judge_who_misses_what_people_call_failures_is_not_certified(report: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    sheet(report, file)
    result = judge("calibrate", scored(file, lambda _: {TASK: 2}), "--key", tmp_path / "labels-key.json")
    assert result.exit_code == 1
    assert "not certified: sensitivity is at least" in result.output
    assert "specificity unknown" in result.output


def labelled(folder: Path, missed: int = 0) -> tuple[Path, Path]:
    """A sheet that people scored, and its key: 100 failures of 600 conversations, of which a judge misses some."""
    conversations = {
        f"c{n}": {
            "challenged": True,
            "flagged": n < 100,
            "weight": 1.0 if n < 100 else 2.5,
            "judges": [{TASK: 2 if n < 100 else 5}],
        }
        for n in range(300)
    }
    key, rows = folder / "key.json", [{"id": f"c{n}", "scores": {TASK: 2 if n < 100 + missed else 5}} for n in range(300)]
    judges, population = [{"name": "model", "fingerprint": "0123456789ab"}], {"flagged": 100, "others": 500}
    key.write_text(json.dumps({"format": 1, "judges": judges, "population": population, "conversations": conversations}))
    return own_file(folder, *rows), key


def test_the_certificate_goes_into_the_gates_policy(tmp_path: Path) -> None:
    file, key = labelled(tmp_path)
    result = judge("calibrate", file, "--key", key, "--certificate", tmp_path / "certificate.yaml", "--language", "de")
    assert result.exit_code == 0, result.output
    policy = GatePolicy.model_validate(yaml.safe_load((tmp_path / "certificate.yaml").read_text()))
    [certificate] = policy.judge_certificates
    assert (certificate.judges, certificate.language, certificate.conversations) == (("0123456789ab",), "de", 300)
    assert 0.87 < certificate.sensitivity < 0.9
    statistics = Statistics(
        criteria={},
        failures=Proportion(hits=0, of=1),
        conformance=Proportion(hits=1, of=1),
        judging=JudgeReliability(fingerprints=certificate.judges),
    )
    demand = {"require_certified_judge": True, "language": "de"}
    assert not [*uncertified_judges(statistics, policy.model_copy(update=demand))]


def test_standard_output_has_the_certificate_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file, key = labelled(tmp_path)
    result = judge("calibrate", file, "--key", key, "--certificate", "-")
    assert [*yaml.safe_load(result.stdout)] == ["judgeCertificates"]
    assert ("certified" in result.stderr, Path("-").exists()) == (True, False)


def test_a_sheet_with_its_guide_and_key_does_not_go_to_standard_output(report: Path, tmp_path: Path) -> None:
    for words in (("-o", "-"), ("-o", str(tmp_path / "sheet.csv"), "--key", "-")):
        result = judge("sheet", report, *words)
        assert (result.exit_code, result.stderr) == (
            2,
            "a sheet comes with a guide and a key; choose files for --output and --key, not standard output\n",
        )


def test_the_labels_of_a_certificate_are_peoples_scores_in_any_order(tmp_path: Path) -> None:
    digests = []
    for missed, turn in ((0, 1), (0, -1), (1, 1)):
        file, key = labelled(tmp_path, missed)
        file.write_text("\n".join(file.read_text().splitlines()[::turn]))
        assert judge("calibrate", file, "--key", key, "--certificate", tmp_path / "certificate.yaml").exit_code == 0
        digests.append(yaml.safe_load((tmp_path / "certificate.yaml").read_text())["judgeCertificates"][0]["labels"])
    assert digests[0] == digests[1] != digests[2]


def test_judges_who_are_not_certified_get_no_certificate(tmp_path: Path) -> None:
    file, key = labelled(tmp_path, missed=20)
    assert judge("calibrate", file, "--key", key, "--certificate", tmp_path / "certificate.yaml").exit_code == 1
    low = judge("calibrate", file, "--key", key, "--certificate", tmp_path / "certificate.yaml", "--min-sensitivity", "0.1")
    assert (low.exit_code, "the gate takes certificates with bounds of 0.8 and more" in low.output) == (2, True)
    unnamed = judge(
        "calibrate", own_file(tmp_path, *(row(n, n % 2 * 3 + 2, n % 2 * 3 + 2) for n in range(60))), "--certificate", file
    )
    assert (unnamed.exit_code, "pass it with --key" in unnamed.output) == (2, True)
    assert not (tmp_path / "certificate.yaml").exists()


def test_bounds_are_those_that_the_options_ask_for(tmp_path: Path) -> None:
    rows = [row(n, 2, 2) for n in range(20)] + [row(20 + n, 5, 5) for n in range(20)]
    file = own_file(tmp_path, *rows)
    assert judge("calibrate", file).exit_code == 0
    assert judge("calibrate", file, "--min-sensitivity", "0.9").exit_code == 1
    assert judge("calibrate", file, "--min-specificity", "0.9").exit_code == 1
    assert "at least 86.1% (20 of 20 labelled: people's failures found)" in judge("calibrate", file).output


def test_a_spreadsheet_is_read_with_the_line_of_each_row(report: Path, tmp_path: Path) -> None:
    file, key = tmp_path / "labels.csv", tmp_path / "secret.json"
    sheet(report, file, "--conversations", "40", "--key", str(key))
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert all(cell[:1] not in "=+-@" for one in rows for cell in one.values() if cell)
    known = json.loads(key.read_text())["conversations"]
    for one in rows:
        one.update({name: str(score).replace(".", ",") for name, score in as_judged(known[one["id"]]).items()})
    filled = tmp_path / "filled.csv"

    def save() -> None:
        with filled.open("w", newline="", encoding="utf-8-sig") as opened:
            table = csv.DictWriter(opened, list(rows[0]), delimiter=";")
            table.writeheader()
            table.writerows(rows)

    save()
    assert judge("calibrate", filled, "--key", key).exit_code in (0, 1)
    rows[1][TASK] = "good"
    save()
    spoiled = judge("calibrate", filled, "--key", key)
    line = 2 + len(rows[0]["conversation"].splitlines())
    assert (spoiled.exit_code, f"filled.csv:{line}: scores.taskSuccess is 'good'" in spoiled.output) == (2, True)


def test_all_errors_come_at_once_with_their_lines(tmp_path: Path) -> None:
    file = own_file(
        tmp_path,
        row(1, 6, 2),
        "{",
        row(2, None, 2),
        row(1, 3, 3),
        "",
        {"id": "c3", "scores": {TASK: 3, "tone": 4}},
        [1],
        {"scores": {TASK: True}, "judges": [{TASK: 3}]},
    )
    result = judge("calibrate", file)
    assert result.exit_code == 2
    told = [line.removeprefix(f"{file}:") for line in result.output.splitlines()]
    assert [line.partition(":")[0] for line in told] == ["1", "2", "3", "4", "6", "6", "7", "8", "8"]
    assert told[0] == "1: scores.taskSuccess is 6; a level is a number from 1 to 5"
    assert told[2] == "3: scores.taskSuccess is missing; every conversation needs one"
    assert told[3] == "4: c1 was scored before; keep one row per conversation"


def test_a_sheet_that_is_not_finished_or_has_another_key_is_refused(report: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "labels.jsonl", tmp_path / "other.jsonl"
    sheet(report, file, "--conversations", "40")
    sheet(report, other, "--conversations", "40", "--seed", "2")
    filled = scored(file, as_judged)
    filled.write_text("\n".join(filled.read_text().splitlines()[:-1]))
    unfinished = judge("calibrate", filled, "--key", tmp_path / "labels-key.json")
    assert (unfinished.exit_code, unfinished.output.count("is missing; score every conversation")) == (2, 1)
    wrong = judge("calibrate", filled, "--key", tmp_path / "other-key.json")
    assert (wrong.exit_code, wrong.output.count("pass the key that was written with this sheet")) == (2, 39)
    no_key = judge("calibrate", filled, "--key", file)
    assert (no_key.exit_code, "is not the key of a sheet" in no_key.output) == (2, True)


@pytest.mark.parametrize("conversations", [{"c1": {}}, [], {"c1": {"challenged": 1, "flagged": 1, "weight": 1, "judges": [{}]}}])
def test_a_damaged_key_is_refused(conversations: object, tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    key.write_text(
        json.dumps({"format": 1, "judges": [], "population": {"flagged": 1, "others": 1}, "conversations": conversations})
    )
    result = judge("calibrate", own_file(tmp_path, row(1, 3, 3)), "--key", key)
    assert (result.exit_code, "is not the key of a sheet" in result.output) == (2, True)


def test_different_numbers_of_judges_are_refused(tmp_path: Path) -> None:
    file = own_file(tmp_path, row(1, 3, 3), {"id": "c2", "scores": {TASK: 3}, "judges": [{TASK: 3}, {TASK: 4}]})
    result = judge("calibrate", file)
    assert (result.exit_code, "different numbers of judges" in result.output) == (2, True)
