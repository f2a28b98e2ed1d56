"""Group-relative policy optimisation: several replies to each prompt, scored by rules or a reward model, compared with each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from modelkit.chat import stop_ids
from modelkit.errors import UserError
from modelkit.generation.sampling import Sampling
from modelkit.generation.stream import decode
from trainers import rewards
from trainers.data.dataset import Prompt
from trainers.data.order import steps
from trainers.loop import StepResult
from trainers.losses import kl_estimate
from trainers.losses.grpo import clipped_surrogate, group_advantages, token_weights
from trainers.modes import learning
from trainers.optimiser import Optimiser
from trainers.ppo.experience import Means, minibatches, updates_of
from trainers.ppo.rollout import Replies, policy_logprobs, reply_logprobs, rewards_of, sample
from trainers.recipe import GrpoStage
from trainers.seeds import derive
from trainers.sft import sample_replies
from trainers.strategies import Strategy, turns
from trainers.strategies.plain import Single

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Judge:
    """The reward of a reply: the weighted sum of the recipe's terms.

    :param reward_model: needed when a term is called ``reward_model``.
    :raises UserError: for a term that can't be found, or a missing reward model.
    """

    def __init__(self, settings: GrpoStage, tokenizer: PreTrainedTokenizerBase, reward_model: PreTrainedModel | None = None) -> None:
        self.terms = [(term.name, term.weight) for term in settings.rewards]
        self._rules = {name: rewards.find(name) for name, _ in self.terms if name != "reward_model"}
        if settings.needs_reward_model and reward_model is None:
            raise UserError("the reward term reward_model needs a reward model: give its checkpoint, or leave the term out.")
        self.model = reward_model if settings.needs_reward_model else None
        self._tokenizer, self._micro_tokens = tokenizer, settings.micro_tokens

    def __call__(self, prompts: Sequence[Prompt], replies: Replies, strategy: Strategy) -> dict[str, Tensor]:
        """Each term's value for every reply, unweighted, [replies]; the replies to a prompt lie beside each other.

        Rules are asked once for each reply, by one rank, since they may answer differently when asked again.
        """
        count, each = len(replies.sequences), len(replies.sequences) // len(prompts)
        mine = strategy.share(range(count), [1] * count)
        texts = {row: decode(self._tokenizer, replies.said(row)) for row in mine} if self._rules else {}
        found: dict[str, Tensor] = {}
        for name, rule in self._rules.items():
            values = torch.zeros(count)
            for row, text in texts.items():
                prompt = prompts[row // each]
                values[row] = rewards.value(name, rule, prompt.text, text, prompt.reference)
            found[name] = strategy.combine(values)
        if self.model is not None:
            found["reward_model"] = rewards_of(self.model, replies, self._micro_tokens, strategy).cpu()
        return found

    def total(self, values: dict[str, Tensor]) -> Tensor:
        """The weighted sum, [replies]."""
        return torch.stack([weight * values[name] for name, weight in self.terms]).sum(0)


class GroupRelative:
    """One step is one rollout and all updates made from it. Dropout stays off; every rank knows all replies.

    :param reference: needed when ``kl_coef`` isn't 0.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        reference: PreTrainedModel | None,
        judge: Judge,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Prompt],
        held_out: Sequence[Prompt],
        probes: Sequence[Prompt],
        settings: GrpoStage,
        seed: int,
        strategy: Strategy | None = None,
    ) -> None:
        self.name, self.settings, self.strategy = "grpo", settings, strategy or Single()
        self.strategy.prepare(model)
        for frozen in (reference, judge.model):
            if frozen is not None:
                self.strategy.prepare(frozen.eval(), trainable=False)
        self.modules: dict[str, nn.Module] = {"model": model}
        updates = updates_of(settings.prompts * settings.samples, settings.epochs, settings.minibatches)
        self.optimisers = {"model": Optimiser([model], settings, updates_per_step=updates, strategy=self.strategy)}
        assert reference is not None or settings.kl_coef == 0, "a KL penalty needs a reference"
        self._model, self._judge = model.eval(), judge
        self._reference = reference if settings.kl_coef else None
        self._tokenizer, self._stop, self._seed = tokenizer, stop_ids(tokenizer, model), seed
        self._prompts, self._held_out, self._probes = prompts, held_out, probes
        self._order: Iterator[list[int]] = iter(())

    def begin(self, step: int) -> None:
        weights = [prompt.weight for prompt in self._prompts]
        self._order = steps([1] * len(weights), self.settings.prompts, self._seed, "grpo prompts", step, weights)

    def step(self, step: int) -> StepResult:
        settings = self.settings
        chosen = next(self._order)
        prompts = [self._prompts[i] for i in chosen]
        replies = self._sample(
            prompts, settings.samples, settings.temperature, [derive(self._seed, "grpo", step, i) for i in range(len(chosen))]
        )
        terms = self._judge(prompts, replies, self.strategy)
        totals = self._judge.total(terms).view(len(prompts), settings.samples)
        advantages = group_advantages(totals, scale=settings.loss != "dr_grpo").flatten().to(replies.mask.device)
        with learning(self._model, dropout=False):
            update = self._update(step, replies, advantages)
        numbers = {
            "reward": float(totals.mean()),
            "reward_sd": float(totals.std()),
            **{f"reward_{name.rpartition(':')[2]}": float(values.mean()) for name, values in terms.items()},
            "equal_groups": float((totals.max(1).values == totals.min(1).values).float().mean()),
            "length": float(replies.mask.sum(1).mean()),
            "eos_rate": float(replies.stopped.float().mean()),
        }
        return StepResult(int(replies.mask.sum()), {**numbers, **update}, chosen)

    def samples(self) -> list[dict[str, Any]]:
        with self.strategy.whole(self._model):
            replies = sample_replies(self._model, self._tokenizer, self._probes, self.settings.max_tokens)
        return [{"prompt": prompt.text, "reply": reply} for prompt, reply in replies]

    def evaluate(self) -> dict[str, float]:
        """The mean reward of greedy replies to the held-out prompts, in all and by term."""
        if not self._held_out:
            return {}
        replies = self._sample(self._held_out, 1, 0.0, [0] * len(self._held_out))
        terms = self._judge(self._held_out, replies, self.strategy)
        parts = {f"eval_reward_{name.rpartition(':')[2]}": float(values.mean()) for name, values in terms.items()}
        return {"eval_reward": float(self._judge.total(terms).mean()), **parts}

    def _sample(self, prompts: Sequence[Prompt], n: int, temperature: float, seeds: Sequence[int]) -> Replies:
        sampling = [Sampling(max_tokens=self.settings.max_tokens, temperature=temperature, seed=seed) for seed in seeds]
        return sample(self._model, [prompt.ids for prompt in prompts], sampling, self._stop, n, self.strategy)

    def _update(self, step: int, replies: Replies, advantages: Tensor) -> dict[str, float]:
        """All passes over one rollout. With a single update the policy is its own past, and that pass need not be made."""
        settings, means = self.settings, Means()
        once = settings.epochs * settings.minibatches == 1
        old = None if once else policy_logprobs(self._model, replies, settings.temperature, settings.micro_tokens, self.strategy)
        reference = (
            None
            if self._reference is None
            else policy_logprobs(self._reference, replies, settings.temperature, settings.micro_tokens, self.strategy)
        )
        for epoch in range(settings.epochs):
            seed = derive(self._seed, "grpo minibatch", step, epoch)
            for minibatch in minibatches(len(replies.sequences), settings.minibatches, seed):
                tokens = float(replies.mask[minibatch].sum())
                for rows, weight in turns(self.strategy, minibatch, replies.lengths, settings.micro_tokens):
                    mask = replies.mask[rows]
                    logprobs, entropy = self.strategy.forward(self._model, reply_logprobs, replies, rows, settings.temperature)
                    before = logprobs.detach() if old is None else old[rows]
                    loss, ratio, clipped = clipped_surrogate(
                        logprobs, before, advantages[rows][:, None], settings.clip_low, settings.clip_high
                    )
                    if reference is not None:
                        kl = kl_estimate(logprobs, reference[rows], "k3")
                        loss = loss + settings.kl_coef * kl
                        means.add(mask * weight, kl_k3_per_token=kl)
                    weights = token_weights(mask, settings.loss, len(minibatch), tokens, settings.max_tokens)
                    self.strategy.backward(weight * (loss * weights).sum(), self._model)
                    means.add(mask * weight, loss=loss, ratio=ratio, clip_fraction=clipped, entropy=entropy)
                means.note(**self.optimisers["model"].step())
        return means.means(self.strategy.sum)
