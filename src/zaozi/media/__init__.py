"""Other output formats: videos, outlines and fonts."""
