"""What the operator exposes and polls: health, metrics, progress of pods."""
