"""Converts what other tools draw to procedures."""
