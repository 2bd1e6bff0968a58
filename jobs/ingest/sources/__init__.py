"""Where rows come from: one file a format, each a `jobs.ingest.source.Source`."""
