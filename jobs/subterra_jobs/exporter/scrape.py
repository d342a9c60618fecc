"""Reads vLLM's metrics page."""

import http.client
from collections import Counter
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from subterra_jobs.exporter.meter import Reading

_LOST = frozenset({"abort", "error"})
_WANTED = frozenset(
    {
        "vllm:num_requests_running",
        "vllm:request_success_total",
        "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total",
        "vllm:request_inference_time_seconds_sum",
        "vllm:request_prefill_time_seconds_sum",
        "vllm:request_decode_time_seconds_sum",
        "http_requests_total",
    }
)
MAX_PAGE_BYTES = 4 * 1024 * 1024


class ScrapeTimeoutError(Exception):
    """vLLM did not answer in time: it may be busy or gone, as the next reading will show."""


def scrape(url: str, timeout: float = 2.0) -> Reading | None:
    """Current reading; `None` when vLLM is not running. Raises ScrapeTimeoutError."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=timeout)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/metrics")
        answer = connection.getresponse()
        page = answer.read(MAX_PAGE_BYTES).decode() if answer.status == http.HTTPStatus.OK else ""
    except TimeoutError as error:
        raise ScrapeTimeoutError from error
    except (OSError, http.client.HTTPException, UnicodeDecodeError):
        return None
    finally:
        connection.close()
    return parse(page)


def parse(page: str) -> Reading | None:
    """Sums over engines and labels; `None` when this is not a metrics page of vLLM."""
    sums: Counter[str] = Counter()
    seen = set()
    # Only lines that matter are parsed: the page has hundreds of histogram buckets, and this runs every second.
    lines = [line for line in page.splitlines() if line.partition("{")[0].partition(" ")[0] in _WANTED]
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                seen.add(sample.name)
                if sample.labels.get("finished_reason") in _LOST:
                    continue
                for name in _names(sample.name, sample.labels):
                    sums[name] += sample.value  # type: ignore[assignment]
    except ValueError:
        return None
    if "vllm:num_requests_running" not in seen:
        return None
    inference = "vllm:request_inference_time_seconds_sum"
    return Reading(
        running=sums["vllm:num_requests_running"],
        completed=sums["vllm:request_success_total"],
        prompt_tokens=sums["vllm:prompt_tokens_total"],
        generation_tokens=sums["vllm:generation_tokens_total"],
        inference_seconds=sums[inference] if inference in seen else None,
        prefill_seconds=sums["vllm:request_prefill_time_seconds_sum"],
        decode_seconds=sums["vllm:request_decode_time_seconds_sum"],
        requests=sums["requests"],
        failed_requests=sums["failed requests"],
    )


def _names(sample: str, labels: Mapping[str, str]) -> Sequence[str]:
    """The sums that a sample counts in; of HTTP requests only those for an answer do."""
    if sample != "http_requests_total":
        return (sample,)
    if labels.get("method") != "POST" or not labels.get("handler", "").startswith("/v1/"):
        return ()
    return ("requests", "failed requests") if labels.get("status", "").startswith("5") else ("requests",)
