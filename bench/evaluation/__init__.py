"""Measures the overhead of simulating conversations over the calls themselves."""
