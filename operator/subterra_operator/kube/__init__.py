"""The operator's I/O with the API server: client, watches, cache, writes."""
