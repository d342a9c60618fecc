"""Kubernetes objects and simulated clusters."""
