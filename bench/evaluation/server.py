"""``python -m bench.evaluation.server SECONDS``: answers as a model and as a provider after so long; prints its URL."""

import sys
import time

from subterra_testkit.evaluation_runs import in_character
from subterra_testkit.fake_llm_api import MessagesApi, messages_api

with messages_api(MessagesApi(answer=in_character, seconds=float(sys.argv[1]))) as api:
    sys.stdout.write(api.url + "\n")
    sys.stdout.flush()
    while True:
        time.sleep(60)
