"""Procedures as pictures: what they tell, where boxes and lines go, and the SVG."""
