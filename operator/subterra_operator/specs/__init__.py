"""Builders: a resource and the settings in, plain Kubernetes objects out. Pure, without a client."""
