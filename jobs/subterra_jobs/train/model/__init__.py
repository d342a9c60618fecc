"""Base models, tokenizers and chat templates, and the exported model."""
