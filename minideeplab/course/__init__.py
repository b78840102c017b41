"""What the notebooks need: figures (`plot`), exercise cards and guesses (`lesson`), sliders (`explorer`)."""

from minideeplab.course.lesson import check, compare_guess, show

__all__ = ["check", "compare_guess", "show"]
