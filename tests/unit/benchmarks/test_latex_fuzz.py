"""Any text in LaTeX: no command, group, cell or comment comes of it."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.latex import SPECIAL, escaped

characters = st.characters() | st.sampled_from([*SPECIAL, "-", "\n", "\r", "\0", "\u2028", "\x7f"])


@example(text=r"\input{/etc/passwd}")
@example(text=r"\write18{id}")
@example(text="^^5cinput x")
@example(text="%\n\\end{document}")
@given(text=st.text(characters, max_size=30))
def test_nothing_is_left_to_tex(text: str) -> None:
    """Without what we put in the place of characters nothing special stays; it is one line that fonts can set."""
    out = escaped(text)
    ours = sorted({*SPECIAL.values(), "{}", "{[}", "{]}"}, key=len, reverse=True)
    bare = re.sub("|".join(map(re.escape, ours)), "", out)
    assert not re.search(r"[\\{}$&#%_~^]", bare)
    assert "\n" not in out
    assert all(" " <= character <= "~" or "À" <= character <= "ÿ" for character in out)
    assert out.count("{") - out.count(r"\{") == out.count("}") - out.count(r"\}")
