"""In which precision a pod serves a model that is made for CPUs: its own command, with stand-ins for vLLM and PyTorch."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from subterra_api.job_contract.environment import STORE_MOUNT
from subterra_operator.specs.vllm_container import Model, command

TORCH = """
class cuda:
    @staticmethod
    def device_count():
        return {gpus}
class cpu:
    @staticmethod
    def get_capabilities():
        return {able!r}
"""
AMX = {"amx_bf16": True, "avx512_bf16": True}
AVX2 = {"avx2": True, "amx_bf16": False, "avx512_bf16": False}


def started(folder: Path, able: dict[str, bool], gpus: int, *arguments: str) -> list[str]:
    """The arguments that vLLM gets from a pod's command on such a machine."""
    entry = folder / "vllm" / "entrypoints" / "openai"
    entry.mkdir(parents=True)
    for package in (folder / "vllm", entry.parent, entry):
        (package / "__init__.py").touch()
    (entry / "api_server.py").write_text("import sys\nprint(*sys.argv[1:], sep='\\n')\n")
    (folder / "torch.py").write_text(TORCH.format(gpus=gpus, able=able))
    line = command(Model("models/m", "travel", "bundled"), arguments)
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, *line[1:]], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("able", "gpus", "precision"),
    [
        pytest.param(AMX, 0, "bfloat16", id="a processor that multiplies in bfloat16"),
        pytest.param(AVX2, 0, "float32", id="a processor that does not"),
        pytest.param(AVX2, 1, "bfloat16", id="a GPU next to such a processor"),
    ],
)
def test_a_bundled_model_is_served_in_the_precision_that_is_quick_there(
    tmp_path: Path, able: dict[str, bool], gpus: int, precision: str
) -> None:
    arguments = started(tmp_path, able, gpus)
    assert arguments[arguments.index("--dtype") + 1] == precision
    assert arguments[arguments.index("--model") + 1] == f"{STORE_MOUNT}/models/m"


def test_the_authors_precision_is_the_last_word(tmp_path: Path) -> None:
    arguments = started(tmp_path, AVX2, 0, "--dtype", "bfloat16")
    assert [after for word, after in pairwise(arguments) if word == "--dtype"] == ["float32", "bfloat16"]
