"""Formulas of values and advantages, without parameters."""
