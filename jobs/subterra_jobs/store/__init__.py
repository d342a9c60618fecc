"""The artifact store: files, leases, append-only logs, verification."""
