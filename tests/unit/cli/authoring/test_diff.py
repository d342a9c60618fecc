"""`subterra diff` tells what an edit changes, and how much of what is said comes after the change."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.main import app
from subterra_cli.procedure_diff import DiffReport, compare
from subterra_testkit.procedures import PLAN, agent, end, fact_hub, procedure, user, way

NODES: list[dict[str, Any]] = [agent("hello", "ask"), user("ask", "bye", "human"), end(), end("human", outcome="escalation")]
SHOP = procedure(*NODES)


def with_changes(**changes: dict[str, Any]) -> ProcedureSpec:
    return procedure(*(node | changes.get(node["id"], {}) for node in NODES))


def edit(**changes: dict[str, Any]) -> DiffReport:
    return compare(SHOP, with_changes(**changes))


def edges(*targets: str, **more: Any) -> dict[str, Any]:
    return {"next": [{"to": to, "when": f"The customer wants {to}.", **more} for to in targets]}


def test_the_same_meaning_is_no_difference_and_no_new_run() -> None:
    spelled_out = edit(hello={"maxVisits": 2})
    assert not spelled_out.new_run
    assert not (spelled_out.nodes or spelled_out.edges or spelled_out.gained or spelled_out.lost)


def test_a_changed_prompt_touches_its_turn_and_all_that_follow() -> None:
    found = edit(ask={"prompt": "Say what you want."})
    assert found.new_run
    assert found.nodes.changed == {"ask": ("prompt",)}
    assert found.rewrite.share == pytest.approx(2 / 3)
    assert edit(hello={"prompt": "Hello there."}).rewrite.share == 1
    assert edit(bye={"prompt": "Bye bye."}).rewrite.share == pytest.approx(1 / 6, abs=0.02)


def test_the_share_follows_the_edges_weights() -> None:
    rare = {"next": [{"to": "bye", "when": "Bye.", "weight": 9}, {"to": "human", "when": "A human."}]}
    found = compare(with_changes(ask=rare), with_changes(ask=rare, human={"prompt": "A colleague comes."}))
    assert found.rewrite.share == pytest.approx(1 / 30, abs=0.01)


def test_a_new_branch_touches_the_turns_that_take_it() -> None:
    found = compare(SHOP, procedure(NODES[0], user("ask", "bye", "human", "later"), *NODES[2:], end("later")))
    assert (found.nodes.added, found.edges.added) == (("later",), ("ask → later",))
    assert found.gained == (("hello", "ask", "later"),)
    assert found.lost == ()
    assert found.rewrite.share == pytest.approx(2 / 9, abs=0.03)


def test_a_removed_branch_loses_its_paths_and_rewrites_nothing() -> None:
    found = compare(SHOP, procedure(NODES[0], user("ask", "bye"), end()))
    assert (found.nodes.removed, found.edges.removed) == (("human",), ("ask → human",))
    assert found.lost == (("hello", "ask", "human"),)
    assert found.rewrite.touched == 0


def test_a_weight_changes_what_is_compiled_and_no_words() -> None:
    found = edit(ask={"next": [{"to": "bye", "when": "The customer wants bye.", "weight": 5}, NODES[1]["next"][1]]})
    assert found.new_run
    assert found.edges.changed == {"ask → bye": ("weight",)}
    assert found.rewrite.touched == 0


def test_a_changed_variable_touches_what_mentions_it_or_rests_on_it() -> None:
    nodes = [agent("hello", "check"), fact_hub("check", way("bye", "Free"), way("human")), *NODES[2:]]
    more = PLAN | {"values": ["Free", "Pro"]}
    found = compare(procedure(*nodes, variables=[PLAN]), procedure(*nodes, variables=[more]))
    assert found.variables.changed == {"plan": ("values",)}
    assert found.rewrite.share == pytest.approx(2 / 3)


def test_another_system_prompt_touches_everything() -> None:
    found = compare(SHOP, procedure(*NODES, systemPrompt="You sell."))
    assert found.settings == ("systemPrompt",)
    assert found.rewrite.share == 1


def run(old: ProcedureSpec, new: ProcedureSpec, tmp_path: Path, *options: str) -> tuple[int, str]:
    files = [tmp_path / "old.yaml", tmp_path / "new.yaml"]
    for file, spec in zip(files, (old, new), strict=True):
        file.write_text(yaml.safe_dump({"apiVersion": "subterra.dev/v1alpha1", "kind": "Procedure", "spec": spec.dump()}))
    result = CliRunner().invoke(app, ["diff", *map(str, files), *options])
    return result.exit_code, result.output


def test_exit_codes_are_those_of_diff(tmp_path: Path) -> None:
    broken = procedure(*(NODES[0] | {"next": [{"to": "nowhere"}]}, *NODES[1:]))
    assert run(SHOP, SHOP, tmp_path) == (0, "both versions mean the same: no new run\n")
    assert run(SHOP, with_changes(bye={"prompt": "Bye."}), tmp_path)[0] == 1
    assert run(SHOP, broken, tmp_path)[0] == 2


def test_people_read_what_changed(tmp_path: Path) -> None:
    new = procedure(NODES[0], user("ask", "bye", "later"), NODES[2] | {"prompt": "Bye."}, end("later"))
    _, told = run(SHOP, new, tmp_path)
    assert told.splitlines()[:8] == [
        "+ node later",
        "- node human",
        "~ node bye: prompt",
        "+ edge ask → later",
        "- edge ask → human",
        "paths: 1 gained, 1 lost",
        "  + hello → ask → later",
        "  - hello → ask → human",
    ]
    assert told.splitlines()[8].endswith("% of 6,000, in 2,000 conversations sampled by edge weight")


def test_scripts_read_json(tmp_path: Path) -> None:
    code, told = run(SHOP, with_changes(bye={"prompt": "Bye."}), tmp_path, "-o", "json")
    assert code == 1
    data = json.loads(told)
    assert (data["new_run"], data["nodes"]["changed"], data["gained"]) == (True, {"bye": ["prompt"]}, [])
