"""Which work is next, and work that would hold up the event loop."""
