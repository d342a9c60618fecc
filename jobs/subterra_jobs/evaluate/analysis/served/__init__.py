"""A sample of the conversations that are served, checked against the procedure: recorded next to vLLM, labelled, counted, kept."""
