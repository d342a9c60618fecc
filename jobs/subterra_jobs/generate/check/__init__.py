"""Checks of written conversations."""
