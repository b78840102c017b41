"""What it costs: closed formulas, a report measured on the network itself, and how others counted."""

from minideeplab.cost.report import Report, compare, profile
from minideeplab.cost.tensorflow_profiler import MultiplyAdds, tf_multiply_adds
from minideeplab.cost.trace import Row

__all__ = ["MultiplyAdds", "Report", "Row", "compare", "profile", "tf_multiply_adds"]
