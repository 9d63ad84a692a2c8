"""Spaces in which diffusion happens, one file per kind."""
