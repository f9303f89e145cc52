"""What the tests and the benchmarks both need: real servers and workers, queries, waiting. It imports neither."""
