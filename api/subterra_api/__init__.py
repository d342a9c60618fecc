"""Shared API: resource models, CRDs, digests, and the contract between operator and jobs. No I/O, no clock."""

__version__ = "0.1.0"
