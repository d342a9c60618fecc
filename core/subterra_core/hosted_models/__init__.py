"""Hosted models as data: prices, limits, thinking and retirement dates."""
