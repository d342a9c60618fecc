"""Models of agents in registries."""
