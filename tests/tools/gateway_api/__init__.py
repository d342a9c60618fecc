"""The Gateway API's CRD of HTTPRoutes for tests: ``python -m tests.tools.gateway_api`` copies it out of the Go module."""

from pathlib import Path

from tests.programs import ModuleCrd

CRD = ModuleCrd(Path(__file__).parent, "sigs.k8s.io/gateway-api", "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml")
