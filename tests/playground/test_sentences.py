from __future__ import annotations

import pytest

from playground.microscope.sentences import sentences


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One. Two! Three?", 3),
        ("Pi is 3.14. Dr. Who agrees, e.g. here.", 2),
        ("今天天气好。我们去公园吧！好吗？", 3),
        ("他说：“好。”然后走了。", 2),
        ("巴黎。It is Paris.", 2),
        ("1. First\n2. Second", 2),
        ("no end", 1),
        ("Wait... what?!", 2),
        ("", 0),
    ],
)
def test_sentences_are_told_apart_and_nothing_is_lost(text: str, count: int) -> None:
    found = sentences(text)
    assert "".join(found) == text
    assert len(found) == count, found
