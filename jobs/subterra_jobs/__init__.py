"""What runs in the cluster besides the operator: the three stages of a run and the price exporter."""
