"""Prints tables, then a line of JSON; default: all parts.

Run as ``python -m bench.generation [planning|reuse|providers|thinking|faults]…``.
"""

import json
import sys

from bench.generation import faults, planning, providers, reuse, thinking

PARTS = {
    "planning": planning.measure,
    "reuse": reuse.measure,
    "providers": providers.measure,
    "thinking": thinking.measure,
    "faults": faults.measure,
}

figures = {}
for name in sys.argv[1:] or PARTS:
    figures |= PARTS[name]()
sys.stdout.write(json.dumps(figures) + "\n")
