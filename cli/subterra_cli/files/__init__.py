"""Reads procedures, manifests and prices from YAML files or the cluster."""
