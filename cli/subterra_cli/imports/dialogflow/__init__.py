"""Converts Dialogflow CX agents to procedures."""
