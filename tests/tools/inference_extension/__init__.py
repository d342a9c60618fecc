"""The Inference Extension's CRD of InferencePools for tests: ``python -m tests.tools.inference_extension`` copies it likewise."""

from pathlib import Path

from tests.programs import ModuleCrd

CRD = ModuleCrd(
    Path(__file__).parent,
    "sigs.k8s.io/gateway-api-inference-extension",
    "config/crd/bases/inference.networking.k8s.io_inferencepools.yaml",
)
