"""``python -m bench.gate``: tables, and one JSON line at the end. The same numbers each time."""

import json
import sys
import time

from bench.gate import decoding, replaying, tables

tables.worlds()
found = tables.power()
tables.spending()
found |= tables.errors() | tables.beside()
tables.bounds()
found |= replaying.figures() | decoding.figures()
sys.stdout.write(json.dumps(found | {"cpu_seconds": round(time.process_time())}) + "\n")
