"""Fake and real servers for tests."""
