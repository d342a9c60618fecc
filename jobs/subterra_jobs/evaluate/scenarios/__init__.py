"""Evaluation scenarios: paths, values and customers."""
