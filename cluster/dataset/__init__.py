"""The dataset format: schema, content digest, publication, reading and verification."""
