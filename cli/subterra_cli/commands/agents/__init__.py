"""Commands on agents in a cluster."""
