"""What tests and benchmarks both need: real servers and workers, queries, waiting. It imports neither of the two."""
