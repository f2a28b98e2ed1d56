"""PEFT adapters: a directory with ``adapter_config.json`` is a checkpoint together with the base model it names."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modelkit import hub
from modelkit.errors import ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def is_adapter(checkpoint: Path) -> bool:
    """Whether the directory holds an adapter rather than a whole model."""
    return (checkpoint / "adapter_config.json").is_file() and not (checkpoint / "config.json").is_file()


def base_of(adapter: Path) -> Path:
    """The directory of the base model: its path seen from the adapter's folder or as it stands, or its copy in the hub's cache.

    The base may be an adapter itself, as where a stage with adapters follows another.

    :raises ModelError: when the adapter doesn't name one, or it is nowhere.
    """
    name = _config(adapter).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise ModelError(f"{adapter / 'adapter_config.json'} names no base model: set base_model_name_or_path to its directory.")
    for path in (adapter / name, Path(name)):
        if (path / "config.json").is_file() or is_adapter(path):
            return path
    try:
        base = hub.find(name)
    except ModelError:
        base = Path(name)
    if not (base / "config.json").is_file():
        raise ModelError(f"the base model {name} of the adapter {adapter} is not there: set base_model_name_or_path to its directory.")
    return base


def is_reward_adapter(adapter: Path) -> bool:
    """Whether the adapter makes a reward model of its base."""
    return _config(adapter).get("task_type") == "SEQ_CLS"


def weights_of(adapter: Path) -> Path:
    """The adapter's weights.

    :raises ModelError: when they are missing, or kept as a pickle.
    """
    file = adapter / "adapter_model.safetensors"
    if file.is_file():
        return file
    if (adapter / "adapter_model.bin").exists():
        raise ModelError(
            f"{adapter} keeps its weights as a pickle (adapter_model.bin), which can run code when opened: save it once, where you trust "
            "it, with PeftModel.save_pretrained(…, safe_serialization=True)."
        )
    raise ModelError(f"{adapter} has no adapter_model.safetensors: copy it, or finish the download.")


def load(adapter: Path, kind: Literal["language", "reward"], dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """The base model with the adapter in it, merged in fp32 where the base's weights are not quantised.

    :raises ModelError: when the two don't fit together.
    """
    import torch
    from peft import PeftModel

    from modelkit.checkpoint import is_quantised, read_tokenizer

    quantised = is_quantised(base_of(adapter))
    place = device if quantised else torch.device("cpu")
    base = _headed(base_of(adapter), place) if kind == "reward" else _language(base_of(adapter), place)
    if kind == "reward" and (adapter / "tokenizer_config.json").is_file():
        base.config.pad_token_id = read_tokenizer(adapter).pad_token_id  # an adapter has no config.json of its own to say it
    try:
        with quiet_peft():
            model: Any = PeftModel.from_pretrained(base, str(adapter), local_files_only=True)
        if not quantised:
            model = model.merge_and_unload(safe_merge=True).requires_grad_(True)  # PEFT froze what it was put on
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"the adapter {adapter} doesn't fit its base model ({str(error).strip().splitlines()[0][:200]}).") from None
    return model.to(device).eval() if quantised else model.to(device=device, dtype=dtype or torch.float32).eval()


@contextmanager
def quiet_peft() -> Iterator[None]:
    """While the block runs, PEFT doesn't warn of what no user can act on: a name that transformers will drop, two adapters where two are
    meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        warnings.filterwarnings("ignore", "Already found a `peft_config` attribute")
        yield


def _language(base: Path, device: torch.device) -> PreTrainedModel:
    from modelkit.checkpoint import load_model

    return load_model(base, device=device)


def _headed(base: Path, device: torch.device) -> PreTrainedModel:
    """The base as a reward model; a head that it doesn't have comes with the adapter."""
    from modelkit.checkpoint import is_reward_model, load_model

    return load_model(base, "reward", device=device) if is_reward_model(base) else with_scalar_head(load_model(base, device=device))


def with_scalar_head(model: PreTrainedModel) -> PreTrainedModel:
    """The body of a language model (the same tensors, quantised or not) under a new head with one output."""
    from accelerate import init_empty_weights
    from torch import nn
    from transformers import AutoModelForSequenceClassification

    config = copy.deepcopy(model.config)
    config.num_labels = 1
    with init_empty_weights():
        headed: Any = AutoModelForSequenceClassification.from_config(config)
    setattr(headed, headed.base_model_prefix, model.base_model)
    headed.score = nn.Linear(headed.score.in_features, 1, bias=False, device=model.device)
    return headed.eval()


def _config(adapter: Path) -> dict[str, Any]:
    file = adapter / "adapter_config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ModelError(f"{file} can't be read: copy it again.") from None
    if not isinstance(config, dict):
        raise ModelError(f"{file} holds no JSON object: copy it again.")
    return config
