"""``python -m bench.evaluation.server SECONDS``: answers as a model and as a provider after so long; prints its URL."""

import sys
import time

from tests.fakes.messages_api import MessagesApi, messages_api
from tests.fakes.playing import in_character

with messages_api(MessagesApi(answer=in_character, seconds=float(sys.argv[1]))) as api:
    sys.stdout.write(api.url + "\n")
    sys.stdout.flush()
    while True:
        time.sleep(60)
