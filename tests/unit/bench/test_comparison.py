"""Four arms and the same customers: each talks through its own server, and wins and losses are in the tables alike."""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from bench.comparison import __main__ as command
from bench.comparison import compiling, plans
from bench.comparison.arms import ArmPlan, ServedModel, baseline_arm, compiled_arm
from bench.comparison.comparing import TRANSCRIPTS, Comparison
from bench.comparison.compiling import BASE, CompiledModel, Dataset, compile_model, run_of
from bench.comparison.customers import AUTHOR, HELD_OUT, Blocks, draw_customers
from bench.comparison.figures import Figures
from bench.comparison.playing import PlaySettings, Serve
from bench.comparison.progress import EVERY_SECONDS, Progress
from bench.comparison.tables import Measure, compare, comparison_table, cost_table, duration, interval, quality_table

from subterra_api.v1alpha1.compilerun import BaseModelKind
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_api.v1alpha1.scores import Proportion
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import render
from subterra_jobs.evaluate.judge.rule_labeller import RuleLabeller
from subterra_jobs.train.exchange import TrainingTask
from subterra_operator.specs.vllm_container import Model
from subterra_testkit.runs.evaluation_runs import FaultlessProvider, role_of
from subterra_testkit.runs.generation_inputs import travel
from subterra_testkit.runs.judgements import system_of
from subterra_testkit.servers.fake_chat_server import fake_chat_server
from subterra_testkit.servers.fake_llm_api import FakeLLMApi, fake_llm_api
from subterra_testkit.servers.vllm_server import ServerStartError, server_command

GRAPH = Graph(travel())
CUSTOMERS = draw_customers(GRAPH, [], 7, 4, 1)
ARMS = ("compiled", "in-context", "orchestrator", "scratch")


class Understanding(FaultlessProvider):
    """The base model as one that never errs with customers in the author's phrasings."""

    def __init__(self, spec: ProcedureSpec, customers: Blocks) -> None:
        super().__init__(spec)
        for scenario in customers[AUTHOR]:
            for each in self._own_words():
                for text in each.examples:
                    self.meant.setdefault(render(text, scenario.values), []).append(each)


class Servers:
    """Stand-ins for the servers: of the base model with its requests, and of compiled models, damaged as `damage` says."""

    def __init__(self, **damage: str) -> None:
        self.damage, self.served, self.asked = damage, list[ServedModel](), dict[str, list[dict[str, Any]]]()
        self._running = self.most_at_once = 0

    @contextmanager
    def serve(self, model: ServedModel, folder: Path) -> Iterator[str]:
        """See `Serve`."""
        self.served.append(model)
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        if self.damage.get(folder.name) == "no start":
            raise ServerStartError("vLLM exited with code 1; its log ends:\nout of memory")
        if model.name == BASE:
            with fake_llm_api(FakeLLMApi(answer=Understanding(travel(), CUSTOMERS))) as api:
                yield api.url
            self.asked[folder.name] = api.bodies
        else:
            with fake_chat_server(travel(), self.damage.get(folder.name, "none")) as (url, self.asked[folder.name]):
                yield url
        self._running -= 1


def four_arms(folder: Path) -> list[ArmPlan]:
    return [
        compiled_arm("compiled", GRAPH, CompiledModel(folder, 2400.0), "bundled"),
        baseline_arm("in-context", GRAPH, folder),
        baseline_arm("orchestrator", GRAPH, folder),
        compiled_arm("scratch", GRAPH, CompiledModel(folder, None), "scratch"),
    ]


def comparison(folder: Path, serve: Serve, write: Callable[[str], None] = lambda _: None) -> Comparison:
    settings = PlaySettings(serve, 2, 7, folder, Progress(write))
    return Comparison(GRAPH, RuleLabeller(GRAPH), CUSTOMERS, settings, Decimal("0.10"), ["- how it was measured"])


def rows_of(page: str, column: str) -> dict[str, str]:
    """A column of the page's tables, by arm."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names = cells if cells[0] == "arm" else names if line.startswith("|") else []
        if cells[0] in ARMS and column in names:
            found[cells[0]] = cells[names.index(column)]
    return found


class Measured(NamedTuple):
    """All four arms, measured once: the stand-ins of their servers, the page, and the folder with the conversations."""

    servers: Servers
    page: str
    folder: Path


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    folder, servers, pages = tmp_path_factory.mktemp("arms"), Servers(scratch="forgetful"), list[str]()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY"):
            patch.delenv(name, raising=False)
        assert comparison(folder, servers.serve).run(four_arms(folder), "compiled", pages.append)
    assert len(pages) == len(ARMS)
    return Measured(servers, pages[-1], folder)


def test_every_arm_talks_to_the_same_customers_without_key_or_price(measured: Measured) -> None:
    right = rows_of(measured.page, f"conformant, {AUTHOR}")
    assert list(right) == list(ARMS)
    assert all(share.startswith("100.0%") and share.endswith("of 4") for share in right.values())
    assert all(share.endswith("of 1") for share in rows_of(measured.page, f"conformant, {HELD_OUT}").values())
    for arm in ARMS:
        chats = [json.loads(line) for line in (measured.folder / arm / TRANSCRIPTS).read_text().splitlines()]
        assert [row["id"] for row in chats] == [scenario.id for block in CUSTOMERS.values() for scenario in block]


def test_an_agent_that_makes_up_values_is_told_apart_from_one_that_keeps_them(measured: Measured) -> None:
    exact = {arm: float(share.partition("%")[0]) for arm, share in rows_of(measured.page, "values kept exact").items()}
    made_up = {arm: float(share.partition("%")[0]) for arm, share in rows_of(measured.page, "values made up").items()}
    assert exact["scratch"] < exact["compiled"]
    assert made_up["scratch"] > made_up["compiled"]


def test_an_edit_costs_compiled_arms_a_training_and_a_start_and_the_others_neither(measured: Measured) -> None:
    found = rows_of(measured.page, "edit to served")
    assert found == {"compiled": "40 min 0 s", "in-context": "0 s", "orchestrator": "0 s", "scratch": "unknown"}


def test_models_are_served_one_at_a_time_each_as_its_kind(measured: Measured) -> None:
    served = [(model.kind, model.max_length) for model in measured.servers.served]
    assert served == [("bundled", 2048), ("bundled", None), ("bundled", None), ("scratch", 1024)]
    assert measured.servers.most_at_once == 1


def test_the_base_model_reads_the_flowchart_or_is_led_through_it_and_a_compiled_one_gets_no_prompt(measured: Measured) -> None:
    asked = measured.servers.asked
    assert {body["model"] for arm in ("in-context", "orchestrator") for body in asked[arm]} == {BASE}
    assert all(node.prompt in system_of(asked["in-context"][0]) for node in travel().nodes)
    assert {role_of(body) for body in asked["orchestrator"]} == {"agent", "router"}
    assert not any("<flowchart>" in message["content"] for body in asked["compiled"] for message in body["messages"])


def test_a_server_that_does_not_start_costs_its_own_row_and_the_page_names_its_log(tmp_path: Path) -> None:
    servers, pages, said = Servers(**{"in-context": "no start"}), list[str](), list[str]()
    assert not comparison(tmp_path, servers.serve, said.append).run(four_arms(tmp_path)[1::2], "compiled", pages.append)
    assert set(rows_of(pages[-1], "model")) == {"scratch"}
    log = str(tmp_path / "in-context/log")
    assert f"in-context failed (its server's log: {log})"[:200] in pages[-1]
    assert any(log in line and "out of memory" in line for line in said)


def test_conversations_that_break_off_are_counted_against_the_arm_and_explained(tmp_path: Path) -> None:
    pages = list[str]()
    assert comparison(tmp_path, Servers(compiled="broken").serve).run(four_arms(tmp_path)[:1], "compiled", pages.append)
    greeted = sum(scenario.opener is not None for block in CUSTOMERS.values() for scenario in block)
    assert rows_of(pages[-1], "broken off") == {"compiled": f"{greeted} of 5"}
    assert greeted > 0
    assert "this conversation is too long" in pages[-1]
    assert not rows_of(pages[-1], f"conformant, {AUTHOR}")["compiled"].startswith("100.0%")


def test_a_server_that_dies_in_between_fails_the_arm_instead_of_lowering_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subterra_jobs.evaluate.simulate.vllm_client.ATTEMPTS", 1)

    @contextmanager
    def gone(model: ServedModel, folder: Path) -> Iterator[str]:
        with fake_chat_server(travel()) as (url, _):
            pass
        yield url

    pages = list[str]()
    assert not comparison(tmp_path, gone).run(four_arms(tmp_path)[:1], "compiled", pages.append)
    assert "compiled failed" in pages[-1]
    assert "| compiled |" not in pages[-1]


FIGURES = Figures(
    arm="compiled",
    model="m",
    conformant={AUTHOR: Proportion(hits=57, of=60), HELD_OUT: Proportion(hits=20, of=40)},
    fabricated=Proportion(hits=0, of=120),
    exact=Proportion(hits=118, of=120),
    broken_off=Proportion(hits=0, of=100),
    why_broken_off="",
    turns=5.0,
    tokens_in=400.0,
    tokens_out=60.0,
    waiting_seconds=2.0,
    busy_seconds=0.6,
    usd=Decimal("0.0000166"),
    compile_seconds=2400.0,
    start_seconds=25.0,
    edit_seconds=2425.0,
)
ORCHESTRATOR = replace(
    FIGURES,
    arm="orchestrator",
    conformant={AUTHOR: Proportion(hits=12, of=60), HELD_OUT: Proportion(hits=36, of=40)},
    fabricated=Proportion(hits=2, of=120),
    exact=Proportion(hits=0, of=0),
    tokens_in=4000.0,
    tokens_out=30.0,
    waiting_seconds=None,
    compile_seconds=0.0,
    edit_seconds=0.0,
)


def test_losses_stand_in_the_same_words_as_wins() -> None:
    told = dict(line.strip("| ").split(" | ", 1) for line in [*comparison_table([FIGURES, ORCHESTRATOR], "compiled")][2:])
    assert told == {
        f"conformant, {AUTHOR}": "better, by 75 points",
        f"conformant, {HELD_OUT}": "worse, by 40 points",
        "values kept exact": "–",
        "values made up": "no clear difference",
        "tokens in": "better, 10.0 ×",
        "tokens out": "worse, 2.0 ×",
        "waiting": "–",
        "busy, USD": "about equal",
        "edit to served": "worse, 40 min 25 s against 0 s",
    }


def test_each_comparison_is_the_other_way_round_from_the_other_side() -> None:
    measure = Measure("conformant", lambda row: row.conformant[AUTHOR], more_is_better=True)
    assert compare(measure, FIGURES, ORCHESTRATOR) == "better, by 75 points"
    assert compare(measure, ORCHESTRATOR, FIGURES) == "worse, by 75 points"
    assert list(comparison_table([ORCHESTRATOR], "compiled")) == []


def test_shares_have_wilson_intervals_and_their_number() -> None:
    assert interval(Proportion(hits=57, of=60)) == "95.0% (86.3 to 98.3) of 60"
    assert interval(Proportion(hits=0, of=0)) == "– of 0"
    assert "| 95.0% (86.3 to 98.3) of 60 |" in [*quality_table([FIGURES])][-1]


def test_costs_are_those_of_a_conversation_and_what_is_unknown_says_so() -> None:
    row = [*cost_table([replace(FIGURES, tokens_in=None, compile_seconds=None, edit_seconds=None)])][-1]
    assert row == "| compiled | 5.0 | – | 60 | 2.0 | 0.6 | 0.000017 | unknown | 25 s | unknown |"
    assert [duration(seconds) for seconds in (0, 59.6, 3600)] == ["0 s", "1 min 0 s", "60 min 0 s"]


@pytest.mark.parametrize(("kind", "dtype"), [("bundled", "by-processor"), ("scratch", "float32")])
def test_models_are_served_in_the_precision_of_their_kind(kind: BaseModelKind, dtype: str) -> None:
    line = server_command(Path("/models/m"), Model("unused", "m", kind), 8123)
    assert line[line.index("--dtype") + 1] == dtype
    assert "--max-model-len" not in line


def test_a_model_is_compiled_once_and_its_time_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = list[TrainingTask]()

    def train(task: TrainingTask, _: object) -> None:
        tasks.append(task)
        task.output_dir.mkdir(parents=True)

    monkeypatch.setattr(compiling, "train", train)
    run, dataset = run_of(travel(), "scratch"), Dataset(tmp_path / "data", 12.0)
    first = compile_model(run, dataset, tmp_path, tmp_path / "models", Progress(lambda _: None))
    assert compile_model(run, replace(dataset, seconds=99.0), tmp_path, tmp_path / "models", Progress(lambda _: None)) == first
    assert [(task.base_model, task.settings) for task in tasks] == [("scratch", run.training)]
    assert first.seconds is not None
    assert first.seconds >= 12.0
    assert compiling.is_of_procedure(first.directory, travel())
    assert not compiling.is_of_procedure(first.directory, travel().model_copy(update={"system_prompt": "Another."}))


def test_frequent_progress_lines_are_thinned_out() -> None:
    now, lines = [0.0], list[str]()
    progress = Progress(lines.append, lambda: now[0])
    for second in (0.0, 1.0, EVERY_SECONDS):
        now[0] = second
        progress.step(f"at {second:.0f}")
    progress.say("done")
    assert lines == ["at 0", f"at {EVERY_SECONDS:.0f}", "done"]


def options(tmp_path: Path, *arguments: str) -> argparse.Namespace:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    output = ["--output", str(tmp_path / "page.md"), "--folder", str(tmp_path / "work")]
    return command.parser().parse_args([*output, *arguments])


def test_the_command_writes_the_page_for_a_given_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def short_run(procedure: ProcedureSpec, kind: BaseModelKind) -> Any:
        run = run_of(procedure, kind)
        return run.model_copy(update={"generation": run.generation.model_copy(update={"conversations": 120})})

    monkeypatch.setattr(plans, "run_of", short_run)
    arms = ["compiled", "in-context", "orchestrator"]
    customers = ["--scenarios", "3", "--phrasings", "1"]
    given = options(tmp_path, "--compiled", str(tmp_path / "model"), "--arms", *arms, *customers)
    assert command.compare(given, tmp_path / "no-models", Servers().serve, Progress(lambda _: None))
    page = (tmp_path / "page.md").read_text()
    assert [*rows_of(page, "USD")] == arms
    assert f"3 with {AUTHOR} and 1 with {HELD_OUT}; conversations at a time: 4" in page
    assert "steps labelled by rules" in page
    assert "compiled: nothing in the given directory says that it was compiled from exactly this procedure" in page


def test_a_directory_without_a_model_is_refused_before_anything_starts(tmp_path: Path) -> None:
    given = options(tmp_path, "--compiled", str(tmp_path / "nothing"))
    with pytest.raises(NotADirectoryError, match="nothing is no model directory"):
        command.compare(given, tmp_path, Servers().serve, Progress(lambda _: None))
