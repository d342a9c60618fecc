"""Where weights are bfloat16, DeepSpeed adds up the gradients of a step's micro-batches in float32, at every ZeRO stage."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from subterra_jobs.train.ranks.launcher import free_port

SUMS = """
import json, sys
from pathlib import Path
from subterra_jobs.train.ranks import rank
rank._init_distributed()
import deepspeed, torch
from deepspeed.utils import safe_get_full_fp32_param
from subterra_jobs.train.optimizers.deepspeed_config import deepspeed_config
from subterra_testkit.runs.training_inputs import training

class Weights(torch.nn.Module):
    # The gradient of a micro-batch is the micro-batch, and gradient descent from zero with a rate of one shows their sum.
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(512, dtype=torch.bfloat16))

    def forward(self, micro):
        return (self.weight * micro).sum()

def summed(micros, stage, in_float32):
    config = deepspeed_config(training(optimizer="adamw", zero_stage=stage), torch.bfloat16)
    config |= {"train_batch_size": 1, "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 1, "gradient_clipping": 0}
    config["bf16"]["enabled"] = True
    if not in_float32:
        del config["data_types"]
    model = Weights()
    engine, *_ = deepspeed.initialize(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=1.0), config=config)
    for number, micro in enumerate(micros, start=1):
        engine.set_gradient_accumulation_boundary(number == len(micros))
        engine.backward(engine(micro))
    engine.step()
    return -safe_get_full_fp32_param(model.weight)

torch.manual_seed(1)
micros = list((torch.rand(48, 512) + 0.5).to(torch.bfloat16))
exact = torch.stack(micros).double().sum(0)
errors = {}
for name, stage, in_float32 in (("1", 1, True), ("2", 2, True), ("3", 3, True), ("2 in bfloat16", 2, False)):
    errors[name] = float(((summed(micros, stage, in_float32) - exact).abs() / exact).max())
Path(sys.argv[1]).write_text(json.dumps(errors))
"""


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Largest relative error of the sum of 48 gradients, by stage."""
    result = tmp_path_factory.mktemp("sums") / "errors.json"
    rank = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    paths = os.pathsep.join(path for path in [str(Path.cwd()), *sys.path] if path)
    environment = os.environ | rank | {"PYTHONPATH": paths, "TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(SUMS), str(result)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.exists(), ended.stderr[-3000:]
    found: dict[str, float] = json.loads(result.read_text())
    return found


@pytest.mark.parametrize("stage", ["1", "2", "3"])
def test_the_gradients_of_many_micro_batches_add_up_to_that_of_one_batch(stage: str, errors: dict[str, float]) -> None:
    assert errors[stage] < 1e-6


def test_a_sum_in_the_precision_of_the_weights_would_lose_part_of_it(errors: dict[str, float]) -> None:
    assert errors["2 in bfloat16"] > 1e-3
