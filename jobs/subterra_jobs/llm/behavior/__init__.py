"""How hosted models behave: what they think, why they stop, what their refusals say, and how a call is told in a trace."""
