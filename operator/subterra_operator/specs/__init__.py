"""Builders: from a resource and the settings to plain Kubernetes objects. Pure, without a client."""
