"""Online training of the teams that record datasets; no part of the installed package."""
