"""How an agent copes with customers who phrase things in ways that it was never trained on."""
