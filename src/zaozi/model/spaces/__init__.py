"""Spaces in which diffusion runs, one file per kind."""
