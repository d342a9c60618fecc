"""The whole evaluation on a real cluster: the paper's protocol and the gate's defaults, over stand-ins of the hosted models."""
