"""DeepSpeed adds up the gradients of all micro-batches of a step before it updates the weights."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from subterra_jobs.train.ranks.launcher import free_port
from subterra_testkit.runs.training_inputs import dataset

TRAIN_WITH_LIMIT = """
import json, sys
from pathlib import Path
from subterra_jobs.train.ranks import rank
from subterra_jobs.train.batches.step_plan import StepPlan
from subterra_jobs.train.exchange import Exchange
from subterra_jobs.train import trainer
from subterra_testkit.runs.training_inputs import training_task

folder, limit, stage = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
micros = []
def limited(lengths, batch, ranks, _, seed):
    plan = StepPlan(lengths, batch, ranks, limit, seed)
    micros.append(len(plan.epoch(0)[0][0]))
    return plan
trainer.StepPlan = limited
exchange = Exchange(folder)
task = training_task(folder, max_steps=4, checkpoint_steps=4, batch_size=8, optimizer="adamw", zero_stage=stage)
exchange.write_task(task)
code = rank.main(str(folder))
(folder / "micros.json").write_text(json.dumps(micros))
sys.exit(code)
"""


def held_out_loss(folder: Path, limit: int, stage: int) -> tuple[int, float]:
    """Micro-batches of the first step, and the held-out loss after four steps with this limit of tokens."""
    dataset(folder / "data", train=32)
    (folder / "checkpoints").mkdir()
    rank = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    paths = os.pathsep.join(path for path in [str(Path.cwd()), *sys.path] if path)
    environment = os.environ | rank | {"PYTHONPATH": paths, "TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(TRAIN_WITH_LIMIT), str(folder), str(limit), str(stage)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (folder / "result.json").exists(), ended.stderr[-3000:]
    (micros,) = json.loads((folder / "micros.json").read_text())
    return micros, json.loads((folder / "result.json").read_text())["heldout_loss"]


@pytest.mark.parametrize("stage", [2, pytest.param(3, marks=pytest.mark.exhaustive)])
def test_a_step_of_many_micro_batches_trains_as_one_of_a_single_one(stage: int, tmp_path: Path) -> None:
    micros, whole = held_out_loss(tmp_path / "whole", 100_000, stage)
    assert micros == 1
    micros, divided = held_out_loss(tmp_path / "divided", 1, stage)
    assert micros == 8
    assert divided == pytest.approx(whole, rel=1e-4)
