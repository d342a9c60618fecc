"""Datasets of compile runs: where they are, their conversations, how often they take each edge."""
