"""Kubernetes Events: what a change of a status says to the people who watch the resource."""
