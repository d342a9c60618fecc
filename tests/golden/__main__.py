"""``python -m tests.golden`` writes what tests compare with: the promises of v1alpha1 and Argo CD's test data."""

import argparse
import json
import sys
from functools import partial

from tests import programs
from tests.golden import argocd, v1alpha1
from tests.tools.gitops_health import build

from subterra_cluster.config import default_cache
from subterra_testkit.cluster.kubernetes_objects import ROOT

GOLDEN = ROOT / "tests/golden/v1alpha1.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--allow-breaking", action="store_true", help="forget promises that are broken; for what was never released"
    )
    allowed = parser.parse_args().allow_breaking
    old, new = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}, v1alpha1.tree()
    if (lines := v1alpha1.breaking(old, new)) and not allowed:
        print(*lines, v1alpha1.ADVICE, sep="\n", file=sys.stderr)
        return 1
    GOLDEN.write_text(v1alpha1.text(new))
    program = programs.ensure(build.SOURCES, ".", default_cache())
    for path, text in argocd.files(lambda *question: partial(build.ask, program, question)).items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
