"""Pictures in other forms: films, outlines and fonts."""
