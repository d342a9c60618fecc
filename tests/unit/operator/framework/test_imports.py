"""What the operator's process imports it holds in memory at rest."""

import json
import subprocess
import sys

UNUSED = {"networkx", "numpy", "scipy", "jinja2", "httpx", "anthropic", "openai", "subterra_jobs", "subterra_cli"}
MODELS = ("kubernetes.client.models.", "kubernetes.aio.client.models.")
FEW = 10
"""Of the client's classes for objects, hundreds of modules, it imports some for itself. We use plain dicts."""


def test_the_operators_process_imports_nothing_large_that_it_does_not_use() -> None:
    program = "import json, sys, subterra_operator.main, subterra_operator.work.check_process; print(json.dumps([*sys.modules]))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    loaded: list[str] = json.loads(told)
    assert "subterra_core.procedure.lint.analyse" in loaded, "what checks procedures is there"
    assert not UNUSED.intersection(name.partition(".")[0] for name in loaded)
    assert len([name for name in loaded if name.startswith(MODELS)]) <= FEW
