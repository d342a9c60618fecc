"""Programs whose source is in the commands of vLLM's container. They need only Python: images may have nothing of ours."""
