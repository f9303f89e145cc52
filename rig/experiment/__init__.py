"""The experiment: which cells are run, in which order, and one DAG run of a cell at a time."""
