"""What it costs: closed formulas, a report measured on the network itself, and how others counted."""

from minideeplab.cost.multiply_adds import MultiplyAdds, tf_multiply_adds
from minideeplab.cost.report import Report, Row, compare, profile

__all__ = ["MultiplyAdds", "Report", "Row", "compare", "profile", "tf_multiply_adds"]
