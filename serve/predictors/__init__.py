"""One predictor per task: from a checked request item to an answer."""
