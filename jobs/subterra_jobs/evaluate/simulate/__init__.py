"""Simulated conversations: agents, customers and the loop between them."""
