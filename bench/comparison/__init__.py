"""The same customers with compiled models, and with a base model that reads or is led through the flowchart."""
