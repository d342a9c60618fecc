"""How often free words are labelled correctly by sentence embeddings."""
