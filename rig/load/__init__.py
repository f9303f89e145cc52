"""Load tests: what is asked for, what they leave behind, how they are judged, and how they are run."""
