"""Network modules: parameters, no losses."""
