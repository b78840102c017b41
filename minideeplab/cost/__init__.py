"""What it costs: closed formulas, a report measured on the network itself, and how others counted."""

from minideeplab.cost.report import Report, Row, compare, profile
from minideeplab.cost.tensorflow_profiler import MultiplyAdds, tf_multiply_adds

__all__ = ["MultiplyAdds", "Report", "Row", "compare", "profile", "tf_multiply_adds"]
