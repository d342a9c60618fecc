"""Measures what serving costs, beside each vLLM: busy and idle time, conversations, dollars."""
