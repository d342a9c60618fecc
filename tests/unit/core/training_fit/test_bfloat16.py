"""Which processors multiply in bfloat16, to the training, the demo and vLLM's container alike."""

import inspect
import re

from subterra_core.training_fit.bfloat16 import BFLOAT16_FEATURES, multiplies_in_bfloat16
from subterra_operator.specs.in_vllm import drainable_vllm

CPUINFO = "model name\t: AMD EPYC\nflags\t\t: fpu avx2 {more}sse\n"


def test_a_processor_is_known_by_its_flags() -> None:
    assert multiplies_in_bfloat16(CPUINFO.format(more="avx512_bf16 ").split())
    assert not multiplies_in_bfloat16(CPUINFO.format(more="").split())


def test_vllms_container_where_nothing_of_ours_is_installed_looks_for_the_same_features() -> None:
    assert set(re.findall(r"\w+_bf16", inspect.getsource(drainable_vllm))) == BFLOAT16_FEATURES
