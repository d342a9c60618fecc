"""Paths of a procedure counted, edges that no path takes, and the directed graphs that both need."""
