"""What stages know of others: model providers, the hub of base models, and pods that train together."""
