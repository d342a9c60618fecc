"""Measures the gate."""
