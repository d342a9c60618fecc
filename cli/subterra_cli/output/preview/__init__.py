"""The page of `subterra edit`: what an author sees of a procedure while writing it."""
