"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return rows of cells as a table.

    Parameters
    ----------
    rows : sequence of sequence of str
        The cells, the same number in each row; the first row is usually the head.
    left : int
        The number of columns, from the left, whose cells begin in line; the cells of all others end in line.

    Examples
    --------
    >>> from xpnet.text import aligned
    >>> print(aligned([("recipe", "epochs"), ("mlp", "20"), ("best", "9")]))
    recipe  epochs
    mlp         20
    best         9
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        placed = [cell.ljust(width) if i < left else cell.rjust(width) for i, (cell, width) in enumerate(cells)]
        lines.append("  ".join(placed).rstrip())
    return "\n".join(lines)
