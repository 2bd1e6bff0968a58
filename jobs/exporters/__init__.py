"""Measurements of a run for programs of others: each one file, optional, fed by the leading worker's recorder."""
