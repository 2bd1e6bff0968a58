"""The platform: store, datasets, run records, registry, Ray sessions, specs and the command line's front door."""
