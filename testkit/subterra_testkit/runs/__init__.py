"""Inputs and results of runs."""
