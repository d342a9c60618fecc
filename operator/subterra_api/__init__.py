"""The language everyone speaks: resources, procedure graph, digests, job contract, gate, prices. No I/O, no clock."""
