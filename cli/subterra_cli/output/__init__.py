"""Procedures, paths and differences as text, JSON and pictures."""
