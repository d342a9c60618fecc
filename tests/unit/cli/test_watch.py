"""What `subterra watch` says to people."""

from typing import Any

from subterra_cli.watch_compile import blocking_problem, duration, is_served, stage_views


def test_progress_follows_the_statuses() -> None:
    run = {
        "status": {
            "stages": [
                {"name": "generate", "state": "Succeeded", "percent": 100},
                {"name": "train", "state": "Running", "percent": 42},
            ]
        }
    }
    agent = {"metadata": {"name": "travel"}, "status": {"currentRun": "travel-1", "price": {"usdPerConversation": "0.0001"}}}
    stages = {stage.name: stage for stage in stage_views(agent, run)}
    assert [stages[name].state for name in ("generate", "train", "evaluate", "serve", "price")] == [
        "Succeeded",
        "Running",
        "Pending",
        "Pending",
        "Succeeded",
    ]
    assert (stages["train"].percent, stages["price"].message) == (42, "$0.0001 per conversation")


def test_a_duration_reads_like_one() -> None:
    assert (duration(9), duration(75), duration(3605)) == ("9s", "1m 15s", "60m 05s")


def agent_with(**up_to_date: str) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True"}, {"type": "UpToDate", **up_to_date}]
    return {"metadata": {"generation": 2}, "status": {"observedGeneration": 2, "conditions": conditions}}


def test_watching_ends_when_the_agent_serves_what_its_procedure_says() -> None:
    assert is_served(agent_with(status="True"))
    assert not is_served(agent_with(status="False"))
    assert not is_served(agent_with(status="True") | {"metadata": {"generation": 3}})


def test_a_rejected_candidate_is_trouble_and_work_in_progress_is_not() -> None:
    assert blocking_problem(agent_with(status="False", reason="GateFailed", message="conformance")) == "GateFailed: conformance"
    assert blocking_problem(agent_with(status="False", reason="Compiling", message="train 3%")) is None
