"""No procedure that the API server accepts takes more than a second of processor time to check."""

import json
import time
from functools import cache

import pytest

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.lint.analyse import MAX_FINDINGS, analyse
from subterra_core.procedure.lint.findings import Analysis
from subterra_core.procedure.lint.size import MAX_BYTES
from subterra_testkit.worst_procedures import SHAPES

ETCD_BYTES = 1536 * 1024
"""The most that etcd stores, with its default settings."""
MACHINE = 3
"""How many times slower than an idle core a busy machine may count processor time."""


@cache
def checked(shape: str, size: int) -> tuple[Analysis, float]:
    """What is found in a procedure of this shape and size, and in how many seconds of processor time."""
    text = json.dumps(SHAPES[shape](size))
    began = time.process_time()
    found = analyse(ProcedureSpec.model_validate(json.loads(text)))
    return found, time.process_time() - began


@pytest.mark.parametrize("shape", SHAPES)
def test_the_worst_case_of_each_kind_is_checked_within_a_second(shape: str) -> None:
    _, seconds = checked(shape, MAX_BYTES)
    assert seconds < MACHINE


@pytest.mark.parametrize(
    "shape",
    [shape if shape == "mentions" else pytest.param(shape, marks=pytest.mark.exhaustive) for shape in SHAPES],
)
def test_what_is_too_large_is_refused_within_a_second_too(shape: str) -> None:
    """All that takes time is reading it."""
    _, seconds = checked(shape, ETCD_BYTES)
    assert seconds < MACHINE


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_found_does_not_depend_on_the_machine(shape: str) -> None:
    first, _ = checked(shape, MAX_BYTES)
    assert analyse(ProcedureSpec.model_validate(SHAPES[shape](MAX_BYTES))) == first


def test_a_procedure_that_is_too_large_is_refused_with_the_limit_its_largest_part_and_a_fix() -> None:
    found, _ = checked("mentions", ETCD_BYTES)
    (error,) = found.errors
    assert found.too_large
    assert "the limit is 512 KiB" in str(error)
    assert "its examples with 1," in str(error)
    assert "list fewer or shorter examples" in error.fix


def test_a_procedure_within_the_limit_is_checked() -> None:
    found, _ = checked("knot", MAX_BYTES)
    assert not found.too_large


def test_a_mistake_in_everything_is_reported_a_thousand_times_at_most() -> None:
    found, _ = checked("mistakes", MAX_BYTES)
    assert len(found.errors) == MAX_FINDINGS


@pytest.mark.parametrize("shape", ["knot", "guards", "facts", "remembered"])
def test_counting_that_ends_early_still_finds_an_ending(shape: str) -> None:
    found, _ = checked(shape, MAX_BYTES)
    assert found.truncated
    assert found.paths > 0
    assert found.min_turns
