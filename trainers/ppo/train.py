"""PPO with PTX (Ouyang et al. 2022): sample, score, estimate advantages, update actor and critic, keep the language model alive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from modelkit.chat import stop_ids
from modelkit.generation.sampling import Sampling
from modelkit.generation.stream import decode
from modelkit.reward import RewardReference
from trainers.data.dataset import Example, Prompt
from trainers.data.order import microbatches, steps
from trainers.loop import StepResult
from trainers.losses import kl_estimate, masked_mean, policy_loss, value_loss, whiten
from trainers.optimiser import Optimiser
from trainers.ppo import gae
from trainers.ppo.rollout import Replies, in_batches, reply_logprobs, reply_values, rewards_of, sample
from trainers.recipe import PpoStage
from trainers.seeds import derive
from trainers.sft import example_loss_sum

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Ppo:
    """One step is one rollout and all updates made from it. Dropout stays off (all models are in evaluation mode)."""

    def __init__(
        self,
        actor: PreTrainedModel,
        critic: PreTrainedModel,
        reference: PreTrainedModel,
        reward_model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Prompt],
        ptx: Sequence[Example],
        probes: Sequence[Prompt],
        scale: RewardReference,
        settings: PpoStage,
        seed: int,
    ) -> None:
        self.name, self.settings = "rl", settings
        self.modules: dict[str, nn.Module] = {"actor": actor, "critic": critic}
        updates = settings.epochs * settings.minibatches
        self.optimisers = {
            "actor": Optimiser([actor], settings, updates_per_step=updates),
            "critic": Optimiser([critic], settings, lr=settings.critic_lr, updates_per_step=updates),
        }
        self._actor, self._critic, self._reference, self._reward = actor.eval(), critic.eval(), reference.eval(), reward_model.eval()
        self._tokenizer, self._stop, self._seed, self._scale = tokenizer, stop_ids(tokenizer, actor), seed, scale
        self._prompts, self._ptx, self._probes = prompts, ptx, probes
        self._ptx_lengths = [len(example.ids) for example in ptx]
        self._order: Iterator[list[int]] = iter(())
        self._ptx_order: Iterator[list[int]] = iter(())

    def begin(self, step: int) -> None:
        settings = self.settings
        self._order = steps([1] * len(self._prompts), settings.prompts, self._seed, "ppo prompts", start=step)
        self._ptx_order = steps(
            self._ptx_lengths, settings.ptx_tokens, self._seed, "ppo ptx", start=step * settings.epochs * settings.minibatches
        )

    def step(self, step: int) -> StepResult:
        settings = self.settings
        chosen = next(self._order)
        seeds = [derive(self._seed, "rollout", step, row) for row in range(len(chosen))]
        sampling = [Sampling(max_tokens=settings.max_tokens, temperature=settings.temperature, seed=seed) for seed in seeds]
        replies = sample(self._actor, [self._prompts[i].ids for i in chosen], sampling, self._stop)
        mask = replies.mask

        old = in_batches(lambda rows: reply_logprobs(self._actor, replies, rows, settings.temperature)[0], replies, settings.micro_tokens)
        reference = in_batches(
            lambda rows: reply_logprobs(self._reference, replies, rows, settings.temperature)[0], replies, settings.micro_tokens
        )
        values = in_batches(lambda rows: reply_values(self._critic, replies, rows), replies, settings.micro_tokens)
        raw = rewards_of(self._reward, replies, settings.micro_tokens)
        scores = ((raw - self._scale.mean) / max(self._scale.sd, 1e-6)).clamp(-settings.reward_clip, settings.reward_clip)
        scores = scores - settings.missing_eos_penalty * (~replies.stopped).float()

        kl = kl_estimate(old, reference, "k1") * mask
        rewards = gae.token_rewards(kl, mask, scores, settings.kl_coef)
        advantages, returns = gae.advantages(rewards, values, mask, settings.gamma, settings.lam)
        update = self._update(step, replies, old, values, whiten(advantages, mask), returns)
        lengths = mask.sum(1)
        numbers = {
            "reward": float(raw.mean()),
            "reward_sd": float(raw.std()),
            "score": float(scores.mean()),
            "kl": float(kl.sum(1).mean()),
            "kl_k3": float((kl_estimate(old, reference, "k3") * mask).sum(1).mean()),
            "length": float(lengths.mean()),
            "eos_rate": float(replies.stopped.float().mean()),
            "explained_variance": float(1 - _variance(returns - values, mask) / _variance(returns, mask).clamp(min=1e-8)),
            **update,
        }
        return StepResult(int(lengths.sum()), numbers)

    def _update(
        self, step: int, replies: Replies, old: Tensor, old_values: Tensor, advantages: Tensor, returns: Tensor
    ) -> dict[str, float]:
        """All passes over one rollout. Losses are means over the reply tokens of a minibatch; PTX has a normaliser of its own."""
        settings, sums = self.settings, _Means()
        update_actor = step >= settings.critic_warmup
        for epoch in range(settings.epochs):
            shuffled = torch.randperm(
                len(replies.sequences), generator=torch.Generator().manual_seed(derive(self._seed, "minibatch", step, epoch))
            )
            for minibatch in shuffled.chunk(settings.minibatches):
                tokens = float(replies.mask[minibatch].sum())
                for rows in microbatches(minibatch.tolist(), replies.lengths, settings.micro_tokens):
                    mask = replies.mask[rows]
                    if update_actor:
                        logprobs, entropy = reply_logprobs(self._actor, replies, rows, settings.temperature)
                        loss, ratio, clipped = policy_loss(logprobs, old[rows], advantages[rows], settings.clip_ratio)
                        ((loss * mask).sum() / tokens).backward()
                        sums.add(
                            mask,
                            policy_loss=loss,
                            ratio=ratio,
                            clip_fraction=clipped,
                            entropy=entropy,
                            approx_kl=0.5 * (logprobs - old[rows]) ** 2,
                        )
                    values = reply_values(self._critic, replies, rows)
                    errors = value_loss(values, old_values[rows], returns[rows], settings.clip_value)
                    (settings.value_coef * (errors * mask).sum() / tokens).backward()
                    sums.add(mask, value_loss=errors)
                ptx = self._ptx_backward(update_actor)
                if update_actor:
                    if ptx is not None:
                        sums.note(ptx_loss=ptx)
                    sums.note(**self.optimisers["actor"].step())
                else:
                    self.optimisers["actor"].updates += 1
                sums.note(critic_grad_norm=self.optimisers["critic"].step()["grad_norm"])
        return sums.means()

    def _ptx_backward(self, update_actor: bool) -> float | None:
        """Add the gradient of ptx_coef × cross-entropy on a batch of SFT data to the actor's; its loss, or ``None`` when off."""
        if self.settings.ptx_coef == 0 or not self._ptx:
            return None
        chosen = next(self._ptx_order)
        if not update_actor:
            return None
        labels = sum(sum(self._ptx[i].labelled) for i in chosen)
        total = 0.0
        for batch in microbatches(chosen, self._ptx_lengths, self.settings.micro_tokens):
            loss = example_loss_sum(self._actor, [self._ptx[i] for i in batch]) / labels
            (self.settings.ptx_coef * loss).backward()
            total += float(loss.detach())
        return total

    def samples(self) -> list[dict[str, Any]]:
        if not self._probes:
            return []
        greedy = [Sampling(max_tokens=self.settings.max_tokens, temperature=0)] * len(self._probes)
        replies = sample(self._actor, [probe.ids for probe in self._probes], greedy, self._stop)
        rewards = rewards_of(self._reward, replies, self.settings.micro_tokens).tolist()
        texts = [
            decode(self._tokenizer, sequence[length:]) for sequence, length in zip(replies.sequences, replies.prompt_lengths, strict=True)
        ]
        return [
            {"prompt": probe.text, "reply": text, "reward": reward}
            for probe, text, reward in zip(self._probes, texts, rewards, strict=True)
        ]

    def evaluate(self) -> dict[str, float]:
        return {}


class _Means:
    """Running means of per-token tensors and of plain numbers."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._weights: dict[str, float] = {}

    def add(self, mask: Tensor, **tensors: Tensor) -> None:
        for name, tensor in tensors.items():
            self._put(name, float((tensor.detach().float() * mask).sum()), float(mask.sum()))

    def note(self, **numbers: float) -> None:
        for name, number in numbers.items():
            self._put(name, number, 1.0)

    def means(self) -> dict[str, float]:
        return {name: total / self._weights[name] for name, total in self._sums.items()}

    def _put(self, name: str, total: float, weight: float) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + total
        self._weights[name] = self._weights.get(name, 0.0) + weight


def _variance(values: Tensor, mask: Tensor) -> Tensor:
    return masked_mean((values - masked_mean(values, mask)) ** 2, mask)
