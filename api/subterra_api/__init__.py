"""The language everyone speaks: resources, procedure graph, digests, job contract, gate, prices. No I/O, no clock."""

__version__ = "0.1.0"
