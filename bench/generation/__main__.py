"""``python -m bench.generation``: a table, and one JSON line at the end."""

import json
import sys

from bench.generation import planning, providers

sys.stdout.write(json.dumps(planning.figures() | providers.figures()) + "\n")
