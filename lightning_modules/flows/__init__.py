"""Formulas of flow models, without parameters: paths, targets, guidance, couplings and samplers."""
