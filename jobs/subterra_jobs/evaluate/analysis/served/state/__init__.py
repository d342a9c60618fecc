"""The state of a conversation for clients: which step and outcome it has reached, read from its messages next to vLLM."""
