"""Stand-ins for systems outside, spoken to over real HTTP."""
