"""Paths of a procedure counted, and edges that no path takes."""
