"""Conditions beside the text, one file per kind."""
