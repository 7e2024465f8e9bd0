"""Exact values of the flow formulas."""
