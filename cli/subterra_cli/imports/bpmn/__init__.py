"""Converts BPMN 2.0 processes to procedures."""
