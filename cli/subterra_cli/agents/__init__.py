"""Agents in a cluster: their state, what is wrong with them, their report, and which version has traffic."""
