"""The experiment: which cells, in which order, and one DAG run of a cell at a time."""
