"""Tests of the algorithms and what they are made of."""
