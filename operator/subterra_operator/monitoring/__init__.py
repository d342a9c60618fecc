"""Health, metrics, and polling of pods."""
