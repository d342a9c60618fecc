"""Environment variables of stages that reach out of the cluster: model providers and the hub of base models."""
