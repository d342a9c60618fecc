"""Fake vLLM with only a metrics page, over real HTTP; counters are set by the test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer

from subterra_testkit.servers.local_server import QuietHandler, in_background

PAGE = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="m"}} {running}
# HELP vllm:request_success_total Count of successfully processed requests.
# TYPE vllm:request_success_total counter
vllm:request_success_total{{engine="0",finished_reason="stop",model_name="m"}} {completed}
vllm:request_success_total{{engine="0",finished_reason="length",model_name="m"}} 0.0
vllm:request_success_total{{engine="0",finished_reason="abort",model_name="m"}} {aborted}
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{{engine="0",model_name="m"}} {prompt_tokens}
vllm:generation_tokens_total{{engine="0",model_name="m"}} {generation_tokens}
# HELP vllm:request_inference_time_seconds Histogram of time spent in RUNNING phase for request.
# TYPE vllm:request_inference_time_seconds histogram
vllm:request_inference_time_seconds_bucket{{engine="0",le="+Inf",model_name="m"}} {completed}
vllm:request_inference_time_seconds_count{{engine="0",model_name="m"}} {completed}
vllm:request_inference_time_seconds_sum{{engine="0",model_name="m"}} {inference}
"""


@dataclass
class FakeVLLMMetrics:
    """The counters on the page."""

    running: float = 0.0
    completed: float = 0.0
    aborted: float = 0.0
    prompt_tokens: float = 0.0
    generation_tokens: float = 0.0
    inference: float = 0.0
    url: str = ""
    scrapes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def complete(self, requests: int, seconds: float) -> None:
        """Adds sequential requests of `seconds` each."""
        with self._lock:
            self.completed += requests
            self.inference += requests * seconds
            self.prompt_tokens += 100 * requests
            self.generation_tokens += 20 * requests

    def page(self) -> str:
        """The metrics page."""
        with self._lock:
            self.scrapes += 1
            return PAGE.format(**self.__dict__)


@contextmanager
def fake_vllm_metrics(port: int = 0) -> Iterator[FakeVLLMMetrics]:
    """Serves until the end of the block."""
    figures = FakeVLLMMetrics()

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.answer(200, figures.page().encode(), "text/plain")

    with in_background(ThreadingHTTPServer(("127.0.0.1", port), Handler)) as figures.url:
        yield figures
