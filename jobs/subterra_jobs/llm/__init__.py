"""Paid language models: clients, rate limits, caches, accounts and cost estimates."""
