"""Names of what a stage finds in its pod: environment variables, ports, mounts."""

INPUT_FILE = "/etc/subterra/input.json"
STORE_MOUNT = "/store"
PROGRESS_PORT = 8787
EXPORTER_PORT = 8788
VLLM_PORT = 8000
TERMINATION_LOG = "/dev/termination-log"
BUDGET_VARIABLE = "SUBTERRA_BUDGET"
"""Environment variable of a paid stage: its `Budget` as JSON."""
KEY_VARIABLES = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}
"""Environment variable in which each provider's SDK looks for the key."""
ENDPOINTS_VARIABLE = "SUBTERRA_OPENAI_ENDPOINTS"
"""Environment variable of a paid stage: base URLs that the administrator allows beside OpenAI's own, as a JSON list."""
VLLM_VARIABLE = "SUBTERRA_VLLM_URL"
"""Environment variable of evaluation and exporter: where the candidate, or what has traffic, is served."""
REFERENCES_VARIABLE = "SUBTERRA_REFERENCE_URLS"
"""Environment variable of the evaluation: where each of the input's references is served, in their order, as a JSON list."""
GATE_VARIABLE = "SUBTERRA_GATE"
"""Environment variable of the evaluation: the `Gate` that its candidate has before it, as JSON."""
CONCURRENCY_VARIABLE = "SUBTERRA_CONCURRENCY"
"""Environment variable of the evaluation: how many conversations are under way with each condition."""
PRICES_VARIABLE = "SUBTERRA_PRICES"
"""Environment variable of a paid stage: the administrator's `ModelPrice` of models by name, as JSON."""
RESULT_LIMIT = 4096
"""Bytes of a termination message that kubelet keeps."""
