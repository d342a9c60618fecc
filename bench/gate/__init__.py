"""Simulates the gate, and measures replay and alignment."""
