"""The monitor: from records to counts, what it keeps, and that nothing a client sends stops it."""

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from subterra_api.digest import canonical, significant_fields
from subterra_api.job_contract.artifacts import PROCEDURE_FILE
from subterra_api.job_contract.environment import (
    KEEP_DAYS_VARIABLE,
    KEEP_VARIABLE,
    MODEL_PATH_VARIABLE,
    MODELS_VARIABLE,
    MONITOR_STATE_FILE,
    REPORT_PATH_VARIABLE,
    SERVED_VARIABLE,
)
from subterra_api.job_contract.messages import HubCounts, MonitorState
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.evaluate.analysis.served import kept_chats, monitor
from subterra_jobs.evaluate.analysis.served.monitor import Monitor, MonitorEnvironment, make_monitor
from subterra_jobs.evaluate.analysis.served.recorder import INCOMING
from subterra_jobs.evaluate.analysis.served.reference_chats import TRANSCRIPTS
from subterra_testkit.procedures import agent, branch, end, procedure, user

MONDAY = date(2026, 11, 23)
SHOP = procedure(
    agent("hello", "wish", examples=["What would you like?"]),
    user("wish", branch("sell", "Some {{drink}} please."), branch("bye", "Nothing, thanks.")),
    end("sell", examples=["Here is your {{drink}}."]),
    end("bye", examples=["Goodbye."]),
    variables=[{"name": "drink", "values": ["tea", "coffee"]}],
)
SALE = ("What would you like?", "Some tea please.", "Here is your tea.")
REFUSAL = ("What would you like?", "Nothing, thanks.", "Here is your tea.")


def turns(texts: tuple[str, ...]) -> list[dict[str, str]]:
    return [{"role": ("assistant", "user")[index % 2], "content": text} for index, text in enumerate(texts)]


class Pod:
    """The folders of a serving pod."""

    def __init__(self, tmp_path: Path, spec: ProcedureSpec = SHOP) -> None:
        self.folder, self.store = tmp_path / "served", tmp_path / "store"
        (self.folder / INCOMING).mkdir(parents=True)
        (self.store / "models/1").mkdir(parents=True)
        (self.store / "models/1" / PROCEDURE_FILE).write_bytes(canonical(significant_fields(spec)))
        self.variables = {SERVED_VARIABLE: str(self.folder), MODEL_PATH_VARIABLE: "models/1", MODELS_VARIABLE: str(tmp_path)}
        self._number = 0

    def start(self, today: date = MONDAY, **variables: str) -> Monitor:
        return make_monitor(MonitorEnvironment.parse(self.variables | variables, self.store), today)

    def record(self, *texts: str) -> None:
        *asked, reply = turns(texts)
        response = {"choices": [{"message": reply}]}
        self.write(json.dumps({"at": 0, "request": json.dumps({"messages": asked}), "response": json.dumps(response)}))

    def write(self, content: str) -> None:
        self._number += 1
        (self.folder / INCOMING / f"{self._number}.json").write_text(content)

    def report(self, *rows: dict[str, Any]) -> None:
        (self.store / "reports/1").mkdir(parents=True)
        lines = (json.dumps({"arm": "candidate", "error": None, "values": {}} | row) + "\n" for row in rows)
        (self.store / "reports/1" / TRANSCRIPTS).write_text("".join(lines))
        self.variables[REPORT_PATH_VARIABLE] = "reports/1"

    @property
    def state(self) -> MonitorState:
        return MonitorState.model_validate(json.loads((self.folder / MONITOR_STATE_FILE).read_text()))

    @property
    def kept(self) -> str:
        return "".join(file.read_text() for file in sorted((self.folder / kept_chats.FOLDER).glob("*")))


def test_records_become_counts_and_are_deleted(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    running = pod.start()
    for texts in (SALE[:1], SALE, REFUSAL):
        pod.record(*texts)
    assert running.step(MONDAY) == 3
    assert running.step(MONDAY) == 0
    found = pod.state.sample.current
    assert (found.requests, found.conversations, found.conformant) == (3, 2, 1)
    assert (found.asserted, found.fabricated) == (2, 1)
    assert found.endings == {"sell": 2}
    assert found.hubs == {"wish": HubCounts(turns=2, violations=1)}
    assert pod.state.total == found


def test_a_monitor_that_starts_again_goes_on_counting(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    for _ in range(2):
        pod.record(*SALE)
        pod.start().step(MONDAY)
    assert pod.state.total.conversations == 2


@pytest.mark.parametrize(("days", "current", "previous"), [(6, 1, 0), (7, 0, 1), (13, 0, 1), (14, 0, 0)])
def test_counts_are_of_this_week_and_the_last(tmp_path: Path, days: int, current: int, previous: int) -> None:
    pod = Pod(tmp_path)
    running = pod.start()
    pod.record(*SALE)
    running.step(MONDAY)
    running.step(MONDAY + timedelta(days=days))
    sample = pod.state.sample
    assert (sample.current.conversations, sample.previous.conversations, pod.state.total.conversations) == (current, previous, 1)


def test_the_reference_is_the_evaluation_read_in_the_same_way(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    rows = [{"turns": [{"role": each["role"], "text": each["content"]} for each in turns(texts)]} for texts in (SALE, REFUSAL)]
    others = [rows[0] | {"arm": "serving"}, rows[0] | {"kind": "phrasings"}, rows[0] | {"trial": 2}, rows[0] | {"error": "lost"}]
    pod.report(*rows, *others)
    pod.start().step(MONDAY)
    reference = pod.state.sample.reference
    assert reference is not None
    assert (reference.conversations, reference.conformant, reference.hubs["wish"].turns) == (2, 1, 2)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", json.dumps({"request": '{"messages": [{"role": 1}]}', "response": "data: {"}), "\x00"]
)
def test_nothing_that_a_client_sends_stops_the_monitor(tmp_path: Path, content: str) -> None:
    pod = Pod(tmp_path)
    running = pod.start()
    pod.write(content)
    pod.record(*SALE)
    assert running.step(MONDAY) == 2
    assert (pod.state.unreadable, pod.state.total.conversations) == (1, 1)


def test_redacted_keeps_steps_and_not_a_word_that_was_said(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    running = pod.start()
    pod.record("What would you like?", "I am Ada Byron, some coffee please.", "Here is your coffee.")
    running.step(MONDAY)
    row = json.loads(pod.kept)
    assert row["steps"][0] == ["hello"]
    assert not {"Ada", "Byron", "coffee", "like"} & set(pod.kept.replace('"', " ").split())


def test_full_keeps_the_words_and_none_keeps_nothing(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    for policy, kept in (("Full", True), ("None", False)):
        running = pod.start(**{KEEP_VARIABLE: policy})
        pod.record(*SALE)
        running.step(MONDAY)
        assert ("Some tea please." in pod.kept) == kept


def test_what_is_kept_is_gone_after_its_days(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    running = pod.start(**{KEEP_DAYS_VARIABLE: "3"})
    pod.record(*SALE)
    running.step(MONDAY)
    for days, kept in ((2, True), (3, False)):
        running.step(MONDAY + timedelta(days=days))
        assert bool(pod.kept) == kept


def test_no_more_is_kept_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_chats, "MAX_BYTES", 1)
    pod = Pod(tmp_path)
    running = pod.start()
    for _ in range(3):
        pod.record(*SALE)
    running.step(MONDAY)
    assert len(pod.kept.splitlines()) == 1
    assert pod.state.total.requests == 3


def test_a_procedure_that_cannot_be_labelled_is_said_and_records_do_not_pile_up(tmp_path: Path) -> None:
    pod = Pod(tmp_path, procedure(agent("hello", "wish"), user("wish", branch("bye", "Nothing.")), end("bye")))
    running = pod.start()
    pod.record(*SALE)
    assert running.step(MONDAY) == 1
    assert "node hello has no examples" in (pod.state.sample.problem or "")
    assert not [*(pod.folder / INCOMING).iterdir()]


def test_the_labeller_forgets_what_it_has_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "FRESH_AFTER", 2)
    pod, made = Pod(tmp_path), list[int]()
    checked = monitor.ChatCheck

    def counted(*given: Any) -> Any:
        made.append(1)
        return checked(*given)

    monkeypatch.setattr(monitor, "ChatCheck", counted)
    running = pod.start()
    before = len(made)
    for _ in range(5):
        pod.record(*SALE)
    running.step(MONDAY)
    assert len(made) - before == 2


@pytest.mark.parametrize("variables", [{KEEP_VARIABLE: "Some"}, {KEEP_DAYS_VARIABLE: "0"}, {KEEP_DAYS_VARIABLE: "a week"}])
def test_a_wrong_variable_is_named(variables: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(variables))):
        MonitorEnvironment.parse(variables)
