"""A pool whose worker never answers, without Ray's processes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import ray

from subterra_api.job_contract.messages import Budget
from subterra_jobs.errors import InfrastructureError
from subterra_jobs.generate.workers.ray_pool import ANSWER_SECONDS, PoolShape, RayPool
from subterra_testkit.runs.generation_inputs import PAID, run_input


def test_a_worker_that_never_answers_ends_the_stage_and_says_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(reference: Any, *, timeout: float) -> NoReturn:
        assert timeout == ANSWER_SECONDS
        raise ray.exceptions.GetTimeoutError

    monkeypatch.setattr(ray, "get", never)
    pool = RayPool(run_input(tmp_path, teacher=PAID), PoolShape(workers=1, batch=4, concurrency=4), Budget(), lambda: None)
    pool._members = [SimpleNamespace(actor=SimpleNamespace(usage=SimpleNamespace(remote=object)))]
    with pytest.raises(InfrastructureError, match="has not answered for 10 minutes; give its pod more CPU"):
        pool.usage()
