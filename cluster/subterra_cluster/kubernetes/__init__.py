"""Control plane, node and their certificates and files."""
