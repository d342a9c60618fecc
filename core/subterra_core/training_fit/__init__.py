"""Whether a training fits: memory per rank, room on the store, and the GPUs that have enough. Pure."""
