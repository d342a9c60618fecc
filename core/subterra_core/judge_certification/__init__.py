"""Judges compared with people: which conversations people score, and what their scores show."""
