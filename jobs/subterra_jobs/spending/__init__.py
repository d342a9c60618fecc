"""Budgets: reservations, caps and the ledger."""
