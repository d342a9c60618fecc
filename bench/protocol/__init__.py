"""Whole evaluations on a real cluster: the paper's protocol and the gate's defaults, with stand-ins for the hosted models."""
