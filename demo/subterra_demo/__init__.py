"""The demo: from nothing to a served, priced agent, on this machine or on your own cluster."""
