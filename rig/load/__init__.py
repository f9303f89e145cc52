"""The load wing: what a load test is asked for, what it leaves behind, how it is judged, and how it is run."""
