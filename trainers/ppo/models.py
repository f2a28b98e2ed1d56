"""Who plays which part: actor, critic and reference as models of their own, or as adapters on one backbone."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor, nn

from modelkit.adapter import quiet_peft
from modelkit.errors import UserError
from trainers.recipe import Lora
from trainers.strategies import Strategy
from trainers.strategies.plain import Single
from trainers.strategies.tensors import own_state

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Role = Literal["actor", "critic", "reference"]


class Cast(Protocol):
    """Gives PPO the model that plays a role, and what of it is trained."""

    def prepare(self, strategy: Strategy) -> dict[str, nn.Module]:
        """Put the models under *strategy*; the trained parts of actor and critic, by role."""

    def playing(self, role: Role) -> Any:
        """A context in which the model it gives acts as *role*, forward and backward."""

    def plain(self, role: Literal["actor", "critic"]) -> PreTrainedModel:
        """The role as a plain model to save, a language model or one with a scalar head. All ranks call it; the first has the weights."""


class Separate:
    """Three models. Dropout stays off in all of them, or the ratio of an unchanged policy would not be 1."""

    def __init__(self, actor: PreTrainedModel, critic: PreTrainedModel, reference: PreTrainedModel) -> None:
        self._models: dict[str, PreTrainedModel] = {"actor": actor.eval(), "critic": critic.eval(), "reference": reference.eval()}

    def prepare(self, strategy: Strategy) -> dict[str, nn.Module]:
        strategy.prepare(self._models["actor"])
        strategy.prepare(self._models["critic"])
        strategy.prepare(self._models["reference"], trainable=False)
        return {role: self._models[role] for role in ("actor", "critic")}

    @contextmanager
    def playing(self, role: Role) -> Iterator[PreTrainedModel]:
        yield self._models[role]

    def plain(self, role: Literal["actor", "critic"]) -> PreTrainedModel:
        return self._models[role]


class SharedBackbone:
    """One language model, frozen, with a LoRA adapter for the actor, another with a scalar head for the critic; bare it is the reference.

    Three roles for the memory of one model. The value head starts at zero, and so does what the adapters add.
    """

    def __init__(self, model: PreTrainedModel, lora: Lora) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        targets = lora.targets if isinstance(lora.targets, list) else _linear_names(model)
        self._model: Any = model.eval()
        self._strategy: Strategy = Single()
        for role in ("actor", "critic"):
            config = LoraConfig(
                r=lora.rank,
                lora_alpha=lora.alpha,  # type: ignore[arg-type]
                target_modules=targets,
                use_rslora=lora.rslora,
                inference_mode=False,
            )
            try:
                with quiet_peft():
                    inject_adapter_in_model(config, self._model, adapter_name=role)
            except ValueError as error:
                raise UserError(f"lora.targets {targets!r} don't fit the model ({str(error).splitlines()[0][:120]}).") from None
        for name, parameter in self._model.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.float()  # PEFT makes them in the backbone's dtype
        self._model.score = nn.Linear(model.config.hidden_size, 1, bias=False)
        nn.init.zeros_(self._model.score.weight)
        self._model.eval()

    def prepare(self, strategy: Strategy) -> dict[str, nn.Module]:
        self._strategy = strategy
        strategy.prepare(self._model)
        trained: dict[str, nn.Module] = {}
        for role in ("actor", "critic"):
            own = {
                name: p
                for name, p in self._model.named_parameters()
                if f".{role}." in name or (role == "critic" and name.startswith("score."))
            }
            trained[role] = nn.ParameterDict({name.replace(".", "/"): parameter for name, parameter in own.items()})
        self._train_adapters()
        return trained

    @contextmanager
    def playing(self, role: Role) -> Iterator[PreTrainedModel]:
        for layer in self._layers():
            layer.enable_adapters(role != "reference")
            if role != "reference":
                layer.set_adapter(role)
        self._train_adapters()
        yield self._model

    def plain(self, role: Literal["actor", "critic"]) -> PreTrainedModel:
        from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

        weights = self._strategy.export(self._model)
        config = copy.deepcopy(self._model.config)
        if role == "critic":
            config.num_labels = 1
        kind: Any = AutoModelForCausalLM if role == "actor" else AutoModelForSequenceClassification
        model = kind.from_config(config, dtype=torch.float32).eval()
        if role == "actor":
            model.generation_config = copy.deepcopy(self._model.generation_config)
        if weights:
            _fill(model, _merged(weights, {name: layer for name, layer in self._model.named_modules() if _is_adapted(layer)}, role))
        return model

    def _layers(self) -> Iterator[Any]:
        return (module for module in self._model.modules() if _is_adapted(module))

    def _train_adapters(self) -> None:
        """Switching adapters freezes the others in PEFT; both are always trained here."""
        for name, parameter in self._model.named_parameters():
            parameter.requires_grad_("lora_" in name or name.startswith("score."))


def _merged(weights: dict[str, Tensor], adapted: dict[str, Any], role: str) -> dict[str, Tensor]:
    """A backbone's weights as they are without adapters, that of *role* added in: W + s · BA."""
    plain = {name.replace(".base_layer", ""): weight for name, weight in weights.items() if ".lora_" not in name}
    for name, layer in adapted.items():
        update = layer.scaling[role] * weights[f"{name}.lora_B.{role}.weight"] @ weights[f"{name}.lora_A.{role}.weight"]
        plain[f"{name}.weight"] = plain[f"{name}.weight"] + (update.T if layer.fan_in_fan_out else update)
    return plain


@torch.no_grad()
def _fill(model: nn.Module, weights: dict[str, Tensor]) -> None:
    for name, tensor in own_state(model).items():
        tensor.copy_(weights[name])


def _is_adapted(module: nn.Module) -> bool:
    from peft.tuners.lora import LoraLayer

    return isinstance(module, LoraLayer)


def _linear_names(model: PreTrainedModel) -> list[str]:
    """The last parts of the names of all linear layers of the body."""
    return sorted({name.rpartition(".")[2] for name, module in model.base_model.named_modules() if isinstance(module, nn.Linear)})
