"""Sidecar of each vLLM that measures the cost of serving: busy and idle time, conversations, dollars."""
