"""What stays up: online endpoints of registered models."""
