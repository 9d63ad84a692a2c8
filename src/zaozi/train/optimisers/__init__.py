"""Optimisers, one file per kind."""
