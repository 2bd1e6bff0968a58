"""What only the surroundings can tell about a spec: names, references, capacity. One file per kind."""
