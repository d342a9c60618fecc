"""Builds container images and imports them into the node without a registry."""
