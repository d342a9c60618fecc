"""Labellers of free words: a hosted model, or the nearest of the author's examples."""
