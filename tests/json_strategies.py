"""JSON for decoders to be tested with: any there is, and what is nearly an object of the API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 70000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def almost(fields: Iterable[str], words: Iterable[Any] = ()) -> st.SearchStrategy[Any]:
    """JSON with these fields in whatever place, and these words, which are right somewhere."""
    names = st.sampled_from(tuple(fields))
    return st.recursive(
        JSON | st.sampled_from(tuple(words)) if words else JSON,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=6),
        max_leaves=12,
    )
