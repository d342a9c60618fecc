"""Flowcharts as importers read them, and the procedures that are made of them."""
