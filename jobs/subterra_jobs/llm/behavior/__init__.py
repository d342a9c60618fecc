"""How hosted models behave: what they think, why they stop, and what their refusals say. Pure."""
