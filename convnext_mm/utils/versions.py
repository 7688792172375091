"""Compare versions by their numbers, with the standard library alone: whatever else is installed may be broken."""
import re


def digits(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, to compare them: (2, 4, 0) for ``2.4.0rc1+cpu``."""
    return tuple(int(part) for part in re.findall(r'\d+', re.split(r'[^\d.]', version, maxsplit=1)[0]))


def satisfies(version: str, specifiers: str) -> bool:
    """Return whether ``2.3.6`` fits ``<3,>=2.0``; suffixes such as ``rc1`` and ``+cpu`` do not count."""
    for operator, bound in re.findall(r'(<=|>=|==|!=|<|>)\s*([\w.]+)', specifiers):
        width = max(len(digits(version)), len(digits(bound)))
        mine, limit = (digits(v) + (0,) * (width - len(digits(v))) for v in (version, bound))
        if not {'<': mine < limit, '<=': mine <= limit, '>': mine > limit, '>=': mine >= limit,
                '==': mine == limit, '!=': mine != limit}[operator]:
            return False
    return True
