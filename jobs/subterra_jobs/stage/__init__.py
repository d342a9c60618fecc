"""How any stage runs: its environment, progress, cancellation and result."""
