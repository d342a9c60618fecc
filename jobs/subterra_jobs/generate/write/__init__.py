"""Writes conversations turn by turn with a teacher."""
