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
FOUND = {
    # Errors, warnings, paths, and the range of turns.
    "mentions": (0, 100, "more than 5996", 3, None),
    "knot": (0, 0, "more than 6728", 2, None),
    "guards": (0, 499, "more than 1763", 2, None),
    "facts": (0, 0, "more than 100", 2, None),
    "conditions": (0, 0, "more than 2904", 2, None),
    "exclusive": (1000, 0, "0", None, None),
    "terminals": (0, 0, "more than 3370", 2, None),
    "texts": (0, 0, "more than 15420", 2, None),
    "mistakes": (1000, 0, "0", None, None),
    "objects": (1000, 0, "0", None, None),
    "chain": (0, 100, "more than 10^248", 499, 4981),
    "remembered": (0, 0, "more than 8", 122, None),
}
"""What every machine finds, however fast it is."""


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
    found, _ = checked(shape, MAX_BYTES)
    assert (len(found.errors), len(found.warnings), found.path_count, found.min_turns, found.max_turns) == FOUND[shape]


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
