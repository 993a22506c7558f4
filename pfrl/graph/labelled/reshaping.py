"""Which axes of a shape become which, when an array is reshaped."""

from collections.abc import Sequence


def axis_groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Smallest runs ``(axes before, axes after)`` of equal products; axes of size 1 stand alone."""
    groups, i, j = [], 0, 0
    while i < len(before) or j < len(after):
        if i < len(before) and j < len(after) and before[i] == after[j]:
            groups.append(([i], [j]))
            i, j = i + 1, j + 1
        elif i < len(before) and before[i] == 1:
            groups.append(([i], []))
            i += 1
        elif j < len(after) and after[j] == 1:
            groups.append(([], [j]))
            j += 1
        else:
            left, right = [i], [j]
            product = [before[i], after[j]]
            while product[0] != product[1]:
                if product[0] < product[1]:
                    left.append(left[-1] + 1)
                    product[0] *= before[left[-1]]
                else:
                    right.append(right[-1] + 1)
                    product[1] *= after[right[-1]]
            groups.append((left, right))
            i, j = left[-1] + 1, right[-1] + 1
    return groups
