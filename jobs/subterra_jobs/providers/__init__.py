"""Models that are paid by the call: asked within an account's limits and within caps, and never paid twice for one answer."""
