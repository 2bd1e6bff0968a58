"""What runs and ends: label, ingest, train, sweep, evaluate."""
