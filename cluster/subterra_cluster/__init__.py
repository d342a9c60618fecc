"""A one-node Kubernetes from upstream components, for machines that have none. Standard library only."""
