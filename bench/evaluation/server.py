"""``python -m bench.evaluation.server SECONDS``: a fake model and provider that responds after SECONDS; prints its URL."""

import sys
import time

from subterra_testkit.runs.evaluation_runs import in_character
from subterra_testkit.servers.fake_llm_api import FakeLLMApi, fake_llm_api

with fake_llm_api(FakeLLMApi(answer=in_character, seconds=float(sys.argv[1]))) as api:
    sys.stdout.write(api.url + "\n")
    sys.stdout.flush()
    while True:
        time.sleep(60)
