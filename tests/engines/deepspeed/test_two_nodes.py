"""Two pods that train one model: the launcher of each on this machine, as node 0 and node 1, in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest

from subterra_api.job_contract.environment import NODE_RANK_VARIABLE, NODES_VARIABLE, RENDEZVOUS_VARIABLE
from subterra_api.job_contract.messages import LOST_CONTACT, ExitCode
from subterra_jobs.train.exchange import TrainingTask
from subterra_jobs.train.ranks.launcher import free_port
from subterra_jobs.train.training import train
from subterra_testkit.runs.small_models import small_llama
from subterra_testkit.runs.training_inputs import dataset, training_task

STEPS = 16
WAIT_SECONDS = 120
POD = """
import json, os, sys
from pathlib import Path
from subterra_jobs.errors import StageError
from subterra_jobs.stage.pod_group import PodGroup
from subterra_jobs.train.exchange import TrainingTask
from subterra_jobs.train.training import train, train_along

def say(**what):
    print(json.dumps(what), flush=True)

task = TrainingTask.from_json(json.loads(Path(sys.argv[1]).read_text()))
group = PodGroup.parse(os.environ)
try:
    if group.rank:
        group.wait_for_first(lambda: False)
        train_along(task, group)
    else:
        summary = train(task, lambda step, total, loss, held_out: say(step=step, loss=loss), group)
        say(steps=summary.steps, resumed=summary.resumed_from_step)
except StageError as error:
    say(failure=str(error))
    sys.exit(error.code)
"""


def task_of(folder: Path) -> TrainingTask:
    settings = {"max_steps": STEPS, "checkpoint_steps": 4, "batch_size": 8, "optimizer": "adamw", "learning_rate": 0.003}
    return replace(training_task(folder, **settings), base_model=str(folder.parent / "base"), ranks=2)


class Pods:
    """The two pods of one attempt. What node 0 says is read as it comes."""

    def __init__(self, folder: Path, task: TrainingTask) -> None:
        (folder / "task.json").write_text(json.dumps(task.to_json()))
        shared = {NODES_VARIABLE: "2", RENDEZVOUS_VARIABLE: f"127.0.0.1:{free_port()}", "GLOO_SOCKET_IFNAME": "lo"}
        command = [sys.executable, "-c", textwrap.dedent(POD), str(folder / "task.json")]
        self.first, self.second = (
            subprocess.Popen(command, env=os.environ | shared | {NODE_RANK_VARIABLE: str(rank)}, stdout=subprocess.PIPE, text=True)
            for rank in (0, 1)
        )
        self.losses: dict[int, float] = {}
        self.said: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends what is left; the ranks die with it."""
        for pod in (self.first, self.second):
            pod.kill()
            pod.wait()

    def follow(self, until: int = STEPS + 1) -> None:
        """Reads what node 0 says up to a step, or to its end."""
        assert self.first.stdout is not None
        for line in self.first.stdout:
            said = json.loads(line)
            self.said.append(said)
            if said.get("loss") is not None:
                self.losses[said["step"]] = said["loss"]
            if said.get("step", 0) >= until:
                return


@pytest.mark.timeout(1800)
def test_two_nodes_train_as_two_ranks_of_one_pod_do_and_after_the_death_of_one_both_end_and_a_resume_goes_on(tmp_path: Path):
    small_llama(tmp_path / "base")
    alone, together = tmp_path / "alone", tmp_path / "together"
    for folder in (alone, together):
        folder.mkdir()
        dataset(folder / "data", train=32)
    expected = dict[int, float]()
    train(task_of(alone), lambda step, total, loss, _: expected.update({step: loss} if loss is not None else {}))

    with Pods(together, task_of(together)) as killed:
        killed.follow(until=8)
        killed.second.send_signal(signal.SIGKILL)
        killed.follow()
        assert killed.second.wait(WAIT_SECONDS) == -signal.SIGKILL
        assert killed.first.wait(WAIT_SECONDS) == ExitCode.INFRASTRUCTURE
    assert LOST_CONTACT in killed.said[-1]["failure"]
    assert killed.losses == pytest.approx({step: expected[step] for step in killed.losses}, rel=0.001)
    assert not (together / "model" / "config.json").exists()

    with Pods(together, task_of(together)) as resumed:
        resumed.follow()
        assert (resumed.first.wait(WAIT_SECONDS), resumed.second.wait(WAIT_SECONDS)) == (0, 0)
    assert resumed.said[-1]["steps"] == STEPS and 4 <= resumed.said[-1]["resumed"] < STEPS
    assert resumed.losses == pytest.approx({step: expected[step] for step in resumed.losses}, rel=0.01)
    assert (together / "model" / "config.json").is_file(), "node 0 alone exports the model"
