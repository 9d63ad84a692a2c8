"""Model export for other inference engines."""
