"""Writes the dataset: conversations that follow the procedure, each on a planned path with its own scenario."""
