"""``python -m bench.gate``: prints tables, then a line of JSON. Deterministic except for the CPU time."""

import json
import sys
import time

from bench.gate import alignment, replaying, tables

tables.worlds()
figures = tables.power()
tables.spending()
figures |= tables.errors() | tables.promises()
tables.bounds()
figures |= replaying.measure() | alignment.measure()
sys.stdout.write(json.dumps(figures | {"cpu_seconds": round(time.process_time())}) + "\n")
