"""Models in OCI registries: pushed with a statement about how they were made, pulled and verified."""
