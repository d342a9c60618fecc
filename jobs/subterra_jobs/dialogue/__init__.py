"""Shared by generation and evaluation: sampling, scripted conversations, prompt blocks."""
