"""Measures generation."""
