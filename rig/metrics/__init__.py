"""From a run's raw files to its figures: the definition of each metric, and its value in this run."""

from rig.metrics.model import Summary
from rig.metrics.raw import RawRun, load
from rig.metrics.registry import BY_NAME, CONDITIONS, METRICS, Metric
from rig.metrics.summary import summarise, summary_of

__all__ = ["BY_NAME", "CONDITIONS", "METRICS", "Metric", "RawRun", "Summary", "load", "summarise",
           "summary_of"]
