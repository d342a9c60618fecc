"""The paper's tables without a cluster: all arms against stand-ins, or against the hosted models of an agent file."""
