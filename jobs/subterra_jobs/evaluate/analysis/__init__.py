"""Statistics over judged conversations."""
