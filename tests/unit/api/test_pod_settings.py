"""Pod settings: what no pod can have is refused with the fix, everything else is read and hashed as it was written."""

from typing import Any

import pytest
from pydantic import ValidationError

from subterra_api.digest import significant_fields
from subterra_api.v1alpha1.compiledagent import ServingSettings
from subterra_api.v1alpha1.compilerun import ExecutionSettings
from subterra_api.v1alpha1.pod_settings import ResourceRequirements, amount

SMALL_AND_LARGE = [("999m", "1"), ("1Mi", "1048577"), ("1M", "1Mi"), (1, "1001m"), ("0.5", "501m"), ("1Gi", "1.5Gi"), ("1n", "1u")]
KEPT = [{"operator": "Exists", "unknown": [1]}, {"key": "gpu", "operator": "", "value": None}, {"key": "gpu", "effect": ""}]


@pytest.mark.parametrize(("small", "large"), SMALL_AND_LARGE)
def test_quantities_compare_as_numbers(small: str | int, large: str | int) -> None:
    assert amount(small) < amount(large)
    ResourceRequirements.model_validate({"requests": {"cpu": small}, "limits": {"cpu": large}})
    with pytest.raises(ValidationError, match="cpu: a request is larger than the limit"):
        ResourceRequirements.model_validate({"requests": {"cpu": large}, "limits": {"cpu": small}})


def test_equal_amounts_in_different_units_are_no_error() -> None:
    ResourceRequirements.model_validate({"requests": {"memory": "1024Mi"}, "limits": {"memory": "1Gi"}})


@pytest.mark.parametrize("name", ["gpu", "CPU", "storage"])
def test_a_resource_that_no_container_can_have_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name}: unknown resource: use cpu, memory"):
        ResourceRequirements.model_validate({"limits": {name: 1}})


@pytest.mark.parametrize(
    ("toleration", "words"),
    [
        ({"key": "gpu", "operator": "Bogus"}, "operator: Input should be"),
        ({"foo": "bar"}, "key is missing"),
        ({"key": "gpu", "operator": "Exists", "value": "x"}, "value must be left out"),
        ({"key": "gpu", "tolerationSeconds": 5}, "tolerationSeconds needs effect NoExecute"),
        ({"key": "gpu", "tolerationSeconds": "5"}, "tolerationSeconds: Input should be a valid integer"),
    ],
)
def test_a_toleration_that_no_pod_can_have_is_refused(toleration: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ServingSettings.model_validate({"tolerations": [toleration]})


@pytest.mark.parametrize("toleration", KEPT)
def test_a_toleration_is_hashed_as_it_was_written(toleration: dict[str, Any]) -> None:
    serving = ServingSettings.model_validate({"tolerations": [toleration]})
    assert significant_fields(serving) == {"tolerations": [toleration]}, "another digest would be another version"


def test_a_queue_has_a_name_that_a_label_may_have() -> None:
    for name in ("", "team-a", "A.b_c"):
        ExecutionSettings.model_validate({"queueName": name})
    with pytest.raises(ValidationError, match="queueName must be the name of a LocalQueue"):
        ExecutionSettings.model_validate({"queueName": "no such queue!"})
