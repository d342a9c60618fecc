"""KEDA's CRD of ScaledObjects for tests: ``python -m tests.tools.keda`` copies it out of the Go module."""

from pathlib import Path

from tests.programs import ModuleCrd

CRD = ModuleCrd(Path(__file__).parent, "github.com/kedacore/keda/v2", "config/crd/bases/keda.sh_scaledobjects.yaml")
