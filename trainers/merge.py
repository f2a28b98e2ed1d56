"""An adapter and its base → one plain checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelkit import checkpoint
from modelkit.adapter import is_adapter
from modelkit.checkpoint import StageInfo
from modelkit.device import dtype_of
from modelkit.errors import UserError
from modelkit.gptq.layer import GPTQLinear
from modelkit.reward import RewardReference


def merge(adapter: Path, out: Path, dtype: str = "fp32") -> StageInfo:
    """Write the model that an adapter makes of its base, the adapter added into the weights in fp32 and then kept in *dtype*.

    :raises UserError: when *adapter* isn't one, its base is quantised, or *out* is there already.
    """
    checkpoint.check(adapter)
    if not is_adapter(adapter):
        raise UserError(f"{adapter} is a whole model, with nothing to merge: name the directory of an adapter (adapter_config.json).")
    if out.exists():
        raise UserError(f"{out} is there already: choose another --out, or delete it.")
    model: Any = checkpoint.load_model(adapter, "reward" if checkpoint.is_reward_model(adapter) else "language")
    if any(isinstance(module, GPTQLinear) for module in model.modules()):
        raise UserError(
            f"the base of {adapter} is quantised, and its weights can't take an adapter in: "
            "set base_model_name_or_path in adapter_config.json to the unquantised model, and merge again."
        )
    info = checkpoint.read_stage(adapter) or StageInfo(stage=adapter.name)
    reference = RewardReference.read(adapter)
    extra = {} if reference is None else {"reward_reference.json": reference.to_json()}
    checkpoint.save(model.to(dtype_of(dtype)), checkpoint.load_tokenizer(adapter), out, info, extra)
    return info
