"""Reads the datasets of compile runs."""
