"""Measures the generate stage: plans, reuse after edits, rate limits and faults."""
