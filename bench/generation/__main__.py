"""``python -m bench.generation [planning|reuse|providers|faults]…``: tables, then a line of JSON; all parts if none is named."""

import json
import sys

from bench.generation import faults, planning, providers, reuse

PARTS = {"planning": planning.figures, "reuse": reuse.figures, "providers": providers.figures, "faults": faults.figures}

found = {}
for name in sys.argv[1:] or PARTS:
    found |= PARTS[name]()
sys.stdout.write(json.dumps(found) + "\n")
