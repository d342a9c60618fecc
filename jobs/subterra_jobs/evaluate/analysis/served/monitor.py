"""The monitor of a serving pod: `python -m subterra_jobs.evaluate.analysis.served`. Reads records, labels, counts, keeps, deletes.

It runs next to vLLM with little of the node's time, and may fail or lag: then records are dropped and counted, and serving goes on.
"""

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Self, cast, get_args

from subterra_api.job_contract.artifacts import PROCEDURE_FILE
from subterra_api.job_contract.environment import (
    KEEP_DAYS_VARIABLE,
    KEEP_VARIABLE,
    MODEL_PATH_VARIABLE,
    MODELS_DIRECTORY,
    MODELS_VARIABLE,
    REPORT_PATH_VARIABLE,
    SERVED_MOUNT,
    SERVED_VARIABLE,
    STORE_MOUNT,
)
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.evaluate.analysis.served.chat_check import ChatCheck
from subterra_jobs.evaluate.analysis.served.kept_chats import KeptChats, Policy
from subterra_jobs.evaluate.analysis.served.recorded_chat import parse_record
from subterra_jobs.evaluate.analysis.served.recorder import INCOMING
from subterra_jobs.evaluate.analysis.served.reference_chats import reference_counts
from subterra_jobs.evaluate.analysis.served.tally import Tally
from subterra_jobs.evaluate.judge.free_words.embedding_labeller import make_labeller

log = logging.getLogger("subterra")
PAUSE_SECONDS = 2.0
NICENESS = 10
FRESH_AFTER = 2000
"""Records after which the labeller starts with an empty memory: it remembers every text that it has seen."""


@dataclass(frozen=True)
class MonitorEnvironment:
    """What the pod tells the monitor."""

    folder: Path
    model: Path
    report: Path | None
    keep: Policy
    days: int
    models: Path

    @classmethod
    def parse(cls, variables: Mapping[str, str], store: Path = Path(STORE_MOUNT)) -> Self:
        """Reads all variables. Raises InvalidInputError."""
        keep, days = variables.get(KEEP_VARIABLE, "Redacted"), variables.get(KEEP_DAYS_VARIABLE, "7")
        if keep not in get_args(Policy):
            raise InvalidInputError(f"{KEEP_VARIABLE} is {keep!r}; set one of {', '.join(get_args(Policy))}")
        if not days.isdecimal() or not int(days):
            raise InvalidInputError(f"{KEEP_DAYS_VARIABLE} is {days!r}; set a number of days")
        report = variables.get(REPORT_PATH_VARIABLE)
        return cls(
            folder=Path(variables.get(SERVED_VARIABLE) or SERVED_MOUNT),
            model=store / variables.get(MODEL_PATH_VARIABLE, ""),
            report=store / report if report else None,
            keep=cast(Policy, keep),
            days=int(days),
            models=Path(variables.get(MODELS_VARIABLE) or MODELS_DIRECTORY),
        )


class Monitor:
    """Works off what the recorder has written. Without a check it only deletes."""

    def __init__(self, folder: Path, tally: Tally, kept: KeptChats, make_check: Callable[[], ChatCheck] | None) -> None:
        self._folder, self._tally, self._kept, self._make_check = folder, tally, kept, make_check
        self._check, self._checked = make_check() if make_check else None, 0

    def step(self, today: date) -> int:
        """Works off all records that wait and saves the counts; returns the number of records."""
        waiting = sorted((self._folder / INCOMING).glob("*.json"))
        for file in waiting:
            self._work_off(file, today)
        self._tally.add((), today)
        self._tally.save()
        self._kept.forget(today)
        return len(waiting)

    def _work_off(self, file: Path, today: date) -> None:
        try:
            chat = parse_record(json.loads(file.read_text()))
            if chat is not None and self._check is not None:
                finding = self._fresh(self._check).check(chat)
                self._tally.add([finding], today)
                self._kept.keep(chat, finding, today)
        except Exception as error:  # whatever a client has sent must not stop the monitor; its words stay out of the log
            log.warning("%s could not be read: %s", file.name, type(error).__name__)
            self._tally.add((), today, unreadable=1)
        file.unlink(missing_ok=True)

    def _fresh(self, check: ChatCheck) -> ChatCheck:
        self._checked += 1
        if self._make_check is not None and self._checked % FRESH_AFTER == 0:
            self._check = check = self._make_check()
        return check


def make_monitor(environment: MonitorEnvironment, today: date) -> Monitor:
    """The monitor of the served model. If its procedure cannot be labelled, that is what the counts say."""
    tally = Tally(environment.folder, today)
    kept = KeptChats(environment.folder, environment.keep, environment.days)
    try:
        spec = ProcedureSpec.model_validate(json.loads((environment.model / PROCEDURE_FILE).read_text()))
        graph = Graph(spec)

        def make_check() -> ChatCheck:
            return ChatCheck(graph, make_labeller(graph, environment.models))

        check = make_check()
        found = reference_counts(check, spec, environment.report) if environment.report else None
    except (InvalidInputError, OSError, ValueError) as error:
        log.error("nothing can be labelled: %s", error)
        tally.describe(None, f"nothing is counted, since the model's conversations cannot be labelled: {error}")
        return Monitor(environment.folder, tally, kept, None)
    tally.describe(found)
    return Monitor(environment.folder, tally, kept, make_check)


def main() -> None:
    """Runs until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # the counts are saved after each step
    os.nice(NICENESS)
    try:
        environment = MonitorEnvironment.parse(os.environ)
    except InvalidInputError as error:
        log.error("%s", error)
        sys.exit(error.code)
    monitor = make_monitor(environment, datetime.now(UTC).date())
    while True:
        try:
            monitor.step(datetime.now(UTC).date())
        except OSError:
            log.exception("the folder of records cannot be used")
        time.sleep(PAUSE_SECONDS)
