"""Checks of a procedure, each with a suggested fix."""
