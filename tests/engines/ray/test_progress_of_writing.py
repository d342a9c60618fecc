"""What a generate stage tells of its calls while it writes; the module that does so needs Ray."""

import json
from decimal import Decimal

from subterra_api.job_contract.messages import Calls, Progress
from subterra_jobs.generate.main import WritingTotals, progress_fields
from subterra_jobs.llm.admission import UsageStats
from subterra_jobs.stage.progress import ProgressReporter


def test_what_a_pod_tells_of_its_provider_reaches_the_operator_as_it_was_measured() -> None:
    reporter = ProgressReporter("generate")
    figures = UsageStats(Decimal("1.2"), 648_000, 900, 3950.0, 4000.0, Decimal(20), Decimal(0))
    reporter.update(210, 500, "conversations", **progress_fields(figures, WritingTotals(210, turns=2800, reused=1400)))
    heard = Progress.model_validate_json(json.dumps(reporter.current.model_dump(by_alias=True)))
    assert heard.calls == Calls(answered=900, per_minute=3950.0, limit=4000.0, max_usd="20")
    assert heard.message == "3,950 calls/min of 4,000, $1.20 of $20, 1,400 of 2,800 turns reused"
    reporter.update(211, 500, "conversations", **progress_fields(None, WritingTotals()))
    assert reporter.current.calls is None
