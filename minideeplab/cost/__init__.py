"""What it costs: closed formulas, and a report measured on the network itself."""

from minideeplab.cost.report import Report, Row, compare, profile

__all__ = ["Report", "Row", "compare", "profile"]
