"""Drawings of procedures: summary, layout and SVG."""
