"""Procedures: the walkable graph, its paths, its text, its checks."""
