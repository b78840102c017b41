"""The pictures of `learn.data.Shapes`: discs, rods and boxes on a cluttered ground, drawn with whole numbers only.

What each of them asks of a network: a disc and a box of one color differ only in their outline, so a pixel in the middle has
to see far (context); from 1 to 40 pixels, their sizes differ (scale); a rod is one to three pixels wide (boundaries).
"""

import numpy as np
import numpy.typing as npt

CLASSES = ("background", "disc", "rod", "box")
HINTS = np.array([[200, 90, 80], [205, 185, 90], [80, 115, 195]], dtype=np.int64)  # RGB that a disc, a rod, a box tends to
REFERENCE, SMALLEST, LARGEST = 65, 17, 4097  # pixels a side: for which lengths are given, and what can be drawn

Integers = npt.NDArray[np.int64]


def draw(size: int, seed: int, index: int) -> tuple[npt.NDArray[np.uint8], Integers]:
    """Picture (size, size, 3) in RGB 0..255 and its labels (size, size), 0 to 3: the same on every machine.

    One or two discs and as many boxes in any order, two to four rods upon them; what comes later covers what is there.
    Four in five things have their own class's color, the others that of one of the two other classes; specks of these
    colors are background. Numbers come from MT19937, whose stream NumPy has frozen.
    """
    random = np.random.RandomState([seed, index])
    rows, columns = np.indices((size, size), dtype=np.int64)

    def whole(low: int, high: int, *shape: int) -> Integers:
        return np.asarray(random.randint(low, high + 1, shape, dtype=np.int64))  # both ends included

    def length(low: int, high: int) -> int:
        return int(whole(low * size // REFERENCE, high * size // REFERENCE))

    def direction() -> tuple[int, int, int]:  # (p + q i) ** 2 has whole parts and a whole length: an angle without a root
        p, q = whole(-7, 7), whole(1, 7)
        return int(p * p - q * q), int(2 * p * q), int(p * p + q * q)

    def color(kind: int) -> Integers:
        place = kind - 1 + max(0, int(whole(-7, 2)))  # 0 (in four of five), 1 or 2 classes on
        return HINTS[place % 3] + whole(-35, 35, 3)

    a, b, norm = direction()  # the ground goes from one color to another along this direction
    way = (a * (2 * columns - size) + b * (2 * rows - size))[..., None]  # from -1.5 to 1.5 times norm * size
    first, second = whole(30, 150, 3), whole(30, 150, 3)
    picture = first + (second - first) * (3 * norm * size + 2 * way) // (6 * norm * size)
    labels = np.zeros((size, size), dtype=np.int64)

    for _ in range(int(whole(12, 24)) * size**2 // REFERENCE**2):  # specks
        (y, x), (h, w) = whole(0, size - 1, 2), whole(1, 4, 2)
        picture[y : y + h, x : x + w] = color(int(whole(1, 3)))

    things = np.array([1] * int(whole(1, 2)) + [3] * int(whole(1, 2)))
    order = whole(0, 2**31, len(things)).argsort(kind="stable")
    for kind in [*things[order].tolist(), *[2] * int(whole(2, 4))]:
        y, x = whole(size // 10, size - 1 - size // 10, 2)
        if kind == 1:
            inside = (rows - y) ** 2 + (columns - x) ** 2 <= length(8, 20) ** 2
        else:
            long, wide = (length(20, 50), int(whole(1, 3))) if kind == 2 else (length(8, 24), length(8, 24))
            a, b, norm = direction()
            along, across = a * (columns - x) + b * (rows - y), b * (columns - x) - a * (rows - y)
            inside = (2 * abs(along) <= long * norm) & (2 * across > -wide * norm) & (2 * across <= wide * norm)
        picture[inside], labels[inside] = color(kind), kind

    noise = whole(-10, 10, size, size, 3) + whole(-10, 10, size, size, 3)
    return (picture + noise).clip(0, 255).astype(np.uint8), labels
