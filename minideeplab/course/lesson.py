"""What the notebooks need beside the subject: show a figure, compare a guess, check an exercise."""

import base64
import io
from collections.abc import Callable, Mapping
from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, Any

from numpy import generic, ndarray
from torch import Tensor, as_tensor, equal

from minideeplab.checks import require_kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def show(figure: "Figure", *, alt: str) -> None:
    """Display a figure as a picture; `alt` says in words what it shows, for those who do not see it."""
    from IPython.display import display

    require_kind(str, alt=alt)
    if not alt.strip():
        raise ValueError("a figure needs an alt text that says what it shows, got an empty one")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=80, metadata={"Software": None})
    data = {"image/png": base64.b64encode(png.getvalue()).decode(), "text/plain": f"Figure: {alt}"}
    display(data, metadata={"image/png": {"alt": alt}}, raw=True)  # type: ignore[no-untyped-call]


def compare_guess(guess: float | None, truth: float) -> None:
    """Print a guess beside what was counted; nothing is wrong with not guessing, and what is no number is said to be none."""
    if guess is None:
        print("no guess yet")
        return
    if not _is_number(guess):
        print(f"your guess {guess!r} is no finite number, so nothing can be compared with {truth:,}")
        return
    guess = guess if isinstance(guess, int) else float(guess)  # a Fraction, too
    if guess == truth:
        print(f"your guess {guess:,} is exact")
    elif guess * truth <= 0:
        print(f"your guess {guess:,}, counted {truth:,}")
    else:
        times, side = max(guess / truth, truth / guess), "above" if guess > truth else "below"
        distance = f"a factor of {times:.1f}" if times >= 1.05 else f"{abs(guess - truth):.6g}"  # 1.0 would say nothing
        print(f"your guess {guess:,}, counted {truth:,}: {side} by {distance}")


def _is_number(guess: object) -> bool:
    """An integer or a float; True and False are none."""
    return isinstance(guess, Real) and not isinstance(guess, bool) and isfinite(guess)


def check(function: Callable[..., Any], cases: Mapping[tuple[Any, ...], Any]) -> None:
    """Try an exercise on cases {arguments: expected result}, and say which come out right. A stub returns None."""
    results = [function(*arguments) for arguments in cases]
    if all(result is None for result in results):
        print(f"{function.__name__} returns nothing yet: write it, then run this cell")
        return
    wrong = [(case, got, want) for (case, want), got in zip(cases.items(), results, strict=True) if not _same(got, want)]
    for arguments, got, want in wrong:
        print(f"{function.__name__}{arguments if len(arguments) > 1 else f'({arguments[0]!r})'} gives {got}, expected {want}")
    print(f"all {len(cases)} right" if not wrong else f"{len(cases) - len(wrong)} of {len(cases)} right")


def _same(got: Any, want: Any) -> bool:
    if isinstance(got, ndarray | generic):  # numpy's, as good as torch's or Python's
        if isinstance(want, Tensor):
            got = as_tensor(got.copy()) if got.dtype.kind in "biuf" else None
        else:
            got = got.item() if got.size == 1 else got.tolist()
    if isinstance(got, Tensor) and isinstance(want, Tensor):
        return got.shape == want.shape and equal(got.double(), want.double())
    return not isinstance(want, Tensor) and (not isinstance(got, Tensor) or got.numel() == 1) and bool(got == want)
