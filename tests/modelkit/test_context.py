"""How long a sequence may be, by the configuration of a model or by the file that it lies in."""

from __future__ import annotations

import pytest
from transformers import BloomConfig, GPT2Config, LlamaConfig, MistralConfig, PretrainedConfig

from modelkit.context import longest_sequence, longest_served


@pytest.mark.parametrize(
    ("config", "length"),
    [(LlamaConfig(max_position_embeddings=77), 77), (GPT2Config(n_positions=55), 55), (BloomConfig(), None)],
)
def test_the_longest_sequence_is_the_same_by_a_configuration_and_by_its_file(config: PretrainedConfig, length: int | None) -> None:
    assert longest_sequence(config) == longest_sequence(config.to_dict()) == longest_served(config) == length


def test_a_sliding_window_ends_what_is_served_before_positions_do() -> None:
    config = MistralConfig(max_position_embeddings=77, sliding_window=33)
    assert longest_sequence(config) == 77
    assert longest_served(config) == 33
