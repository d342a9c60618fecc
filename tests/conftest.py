"""What tests of several folders need."""

from collections.abc import Callable
from functools import partial

import pytest
from tests.kstatus import oracle

from subterra_cluster.config import default_cache
from subterra_operator.kinds import Object


@pytest.fixture(scope="session")
def kstatus() -> Callable[[Object], tuple[str, str]]:
    """How tools that wait read an object: status and message."""
    if not (program := oracle.binary(default_cache())).exists():
        pytest.skip("kstatus is not built: make test builds it")
    return partial(oracle.status, program)
