"""Exact values of the losses."""
