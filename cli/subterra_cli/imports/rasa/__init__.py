"""Converts Rasa CALM flows to procedures."""
