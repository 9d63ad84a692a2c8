"""Conditions other than text, one file per kind."""
