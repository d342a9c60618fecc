"""How the operator does with a thousand agents."""
