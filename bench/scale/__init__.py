"""Measures the operator with a thousand agents."""
