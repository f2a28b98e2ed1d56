"""PPO with PTX (Ouyang et al. 2022): sample, score, estimate advantages, update actor and critic, keep the language model alive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from modelkit.chat import stop_ids
from modelkit.generation.sampling import Sampling
from modelkit.generation.stream import decode
from modelkit.reward import RewardReference
from trainers.data.dataset import Example, Prompt
from trainers.data.order import steps
from trainers.loop import StepResult
from trainers.losses import kl_estimate, policy_loss, value_loss
from trainers.modes import learning
from trainers.optimiser import Optimiser
from trainers.ppo.experience import Evaluated, Experience, Means, estimate, minibatches, scores, updates_of
from trainers.ppo.kl import KlCoefficient
from trainers.ppo.models import Cast, Role
from trainers.ppo.rollout import Replies, in_batches, policy_logprobs, reply_logprobs, reply_values, rewards_of, sample
from trainers.recipe import PpoStage
from trainers.seeds import derive
from trainers.sft import example_loss_sum
from trainers.strategies import Strategy, turns
from trainers.strategies.plain import Single

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_POLICIES: tuple[Role, ...] = ("actor", "reference")


class Ppo:
    """One step is one rollout and all updates made from it. Dropout stays off (all models are in evaluation mode).

    Ranks share the sampling and the passes; each holds all replies of the rollout, so every statistic is over all of them.
    """

    def __init__(
        self,
        cast: Cast,
        reward_model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Prompt],
        ptx: Sequence[Example],
        probes: Sequence[Prompt],
        scale: RewardReference,
        settings: PpoStage,
        seed: int,
        strategy: Strategy | None = None,
        held_out: Sequence[Prompt] = (),
    ) -> None:
        self.name, self.settings, self.strategy = "rl", settings, strategy or Single()
        self.cast = cast
        self._kl = KlCoefficient(settings.kl_coef, settings.kl_target, settings.kl_horizon)
        trained = cast.prepare(self.strategy)
        self.strategy.prepare(reward_model, trainable=False)
        self.modules: dict[str, nn.Module] = {**trained, **({"kl": self._kl} if settings.kl_target else {})}
        self._updates = updates_of(settings.prompts, settings.epochs, settings.minibatches)
        self.optimisers = {
            role: Optimiser([trained[role]], settings, lr=lr, updates_per_step=self._updates, strategy=self.strategy)
            for role, lr in (("actor", None), ("critic", settings.critic_lr))
        }
        self._reward = reward_model.eval()
        with cast.playing("actor") as actor:
            self._stop = stop_ids(tokenizer, actor)
        self._tokenizer, self._seed, self._scale = tokenizer, seed, scale
        self._prompts, self._held_out, self._ptx, self._probes = prompts, held_out, ptx, probes
        self._ptx_lengths = [len(example.ids) for example in ptx]
        self._order: Iterator[list[int]] = iter(())
        self._ptx_order: Iterator[list[int]] = iter(())

    def begin(self, step: int) -> None:
        settings = self.settings
        weights, ptx_weights = ([row.weight for row in rows] for rows in (self._prompts, self._ptx))
        self._order = steps([1] * len(weights), settings.prompts, self._seed, "ppo prompts", step, weights)
        self._ptx_order = steps(self._ptx_lengths, settings.ptx_tokens, self._seed, "ppo ptx", step * self._updates, ptx_weights)

    def step(self, step: int) -> StepResult:
        settings = self.settings
        chosen = next(self._order)
        replies = self._rollout([self._prompts[i] for i in chosen], "rollout", step)
        found = self._evaluated(replies)
        worth = scores(found.rewards, replies.stopped, self._scale, settings)
        coefficient = float(self._kl.value)
        experience, numbers = estimate(found, worth, coefficient, settings)
        self._kl.update(numbers["kl"], len(chosen))
        update = self._update(step, experience)
        return StepResult(int(replies.mask.sum()), {**numbers, "kl_coef": coefficient, **update}, chosen)

    def _rollout(self, prompts: Sequence[Prompt], *purpose: str | int) -> Replies:
        """A reply of the actor to each prompt, drawn with seeds of their own for that *purpose*."""
        settings = self.settings
        seeds = [derive(self._seed, *purpose, row) for row in range(len(prompts))]
        sampling = [Sampling(max_tokens=settings.max_tokens, temperature=settings.temperature, seed=seed) for seed in seeds]
        with self.cast.playing("actor") as actor:
            return sample(actor, [prompt.ids for prompt in prompts], sampling, self._stop, strategy=self.strategy)

    def _logprobs(self, role: Role, replies: Replies) -> Tensor:
        """[replies, longest reply], without gradients."""
        with self.cast.playing(role) as policy:
            return policy_logprobs(policy, replies, self.settings.temperature, self.settings.micro_tokens, self.strategy)

    def _evaluated(self, replies: Replies) -> Evaluated:
        settings, strategy = self.settings, self.strategy
        logprobs = {role: self._logprobs(role, replies) for role in _POLICIES}
        with self.cast.playing("critic") as critic:
            values = in_batches(
                lambda rows: strategy.forward(critic, reply_values, replies, rows), replies, settings.micro_tokens, strategy
            )
        return Evaluated(
            replies, logprobs["actor"], logprobs["reference"], values, rewards_of(self._reward, replies, settings.micro_tokens, strategy)
        )

    def _update(self, step: int, experience: Experience) -> dict[str, float]:
        """All passes over one rollout. Losses are means over the reply tokens of a minibatch; PTX has a normaliser of its own."""
        settings, means = self.settings, Means()
        replies, mixed = experience.replies, settings.ptx_mixing == "convex" and bool(self._ptx)
        share = 1 - settings.ptx_coef if mixed else 1.0
        train_actor = step >= settings.critic_warmup
        first_ratio, left_out = 1.0, 0
        for epoch in range(settings.epochs):
            seed = derive(self._seed, "minibatch", step, epoch)
            for number, minibatch in enumerate(minibatches(len(replies.sequences), settings.minibatches, seed)):
                tokens = float(replies.mask[minibatch].sum())
                ratios = 0.0
                for rows, weight in turns(self.strategy, minibatch, replies.lengths, settings.micro_tokens):
                    if train_actor:
                        ratios += self._actor_backward(experience, rows, weight, share, tokens, means)
                    self._critic_backward(experience, rows, weight, tokens, means)
                if train_actor:
                    ratio = self.strategy.sum([ratios])[0] / tokens
                    first_ratio = ratio if epoch == number == 0 else first_ratio
                    far = ratio > settings.skip_ratio
                    left_out += far
                    self._actor_step(far, means)
                else:
                    self._ptx_backward(learn=False)
                    self.optimisers["actor"].updates += 1
                means.note(critic_grad_norm=self.optimisers["critic"].step()["grad_norm"])
        first = {"first_ratio": first_ratio} if train_actor else {}
        return {**means.means(self.strategy.sum), **first, "left_out": float(left_out)}

    def _actor_backward(self, experience: Experience, rows: list[int], weight: float, share: float, tokens: float, means: Means) -> float:
        """Add the gradient of *share* × the clipped surrogate of some rows, as part of a mean over *tokens*; the sum of their ratios."""
        settings, old, mask = self.settings, experience.old[rows], experience.replies.mask[rows] * weight
        with self.cast.playing("actor") as actor, learning(actor, dropout=False):
            logprobs, entropy = self.strategy.forward(actor, reply_logprobs, experience.replies, rows, settings.temperature)
            loss, ratio, clipped = policy_loss(logprobs, old, experience.advantages[rows], settings.clip_ratio)
            self.strategy.backward(share * (loss * mask).sum() / tokens, actor)
        distance = 0.5 * (logprobs - old) ** 2
        means.add(mask, policy_loss=loss, ratio=ratio, clip_fraction=clipped, entropy=entropy, approx_kl=distance)
        return float((ratio.detach() * mask).sum())

    def _critic_backward(self, experience: Experience, rows: list[int], weight: float, tokens: float, means: Means) -> None:
        """Add the gradient of value_coef × the clipped value loss of some rows, as part of a mean over *tokens*."""
        old, mask, clip = experience.values[rows], experience.replies.mask[rows] * weight, self.settings.clip_value
        with self.cast.playing("critic") as critic, learning(critic, dropout=False):
            values = self.strategy.forward(critic, reply_values, experience.replies, rows)
            loss = value_loss(values, old, experience.returns[rows], clip)
            self.strategy.backward(self.settings.value_coef * (loss * mask).sum() / tokens, critic)
        means.add(mask, value_loss=loss, value_clip_fraction=(values - old).abs() > clip)

    def _actor_step(self, far: bool, means: Means) -> None:
        """Update the actor, PTX included – or, when its ratios are *far* off, let the whole update go."""
        optimiser = self.optimisers["actor"]
        ptx = self._ptx_backward(learn=not far)
        if far:
            optimiser.drop()
            return
        if ptx is not None:
            means.note(ptx_loss=ptx)
        means.note(**optimiser.step())

    def _ptx_backward(self, learn: bool) -> float | None:
        """Add the gradient of ptx_coef × cross-entropy on a batch of SFT data to the actor's; its loss, or ``None`` when off."""
        if self.settings.ptx_coef == 0 or not self._ptx:
            return None
        chosen = next(self._ptx_order)
        if not learn:
            return None
        labels = sum(sum(self._ptx[i].labelled) for i in chosen)
        total = 0.0
        with self.cast.playing("actor") as actor, learning(actor, dropout=False):
            for batch, weight in turns(self.strategy, chosen, self._ptx_lengths, self.settings.micro_tokens):
                loss = weight * self.strategy.forward(actor, example_loss_sum, [self._ptx[i] for i in batch]) / labels
                self.strategy.backward(self.settings.ptx_coef * loss, actor)
                total += float(loss.detach())
        return self.strategy.sum([total])[0]

    def samples(self) -> list[dict[str, Any]]:
        if not self._probes:
            return []
        greedy = [Sampling(max_tokens=self.settings.max_tokens, temperature=0)] * len(self._probes)
        with self.cast.playing("actor") as actor:
            replies = sample(actor, [probe.ids for probe in self._probes], greedy, self._stop, strategy=self.strategy)
        rewards = rewards_of(self._reward, replies, self.settings.micro_tokens, self.strategy).tolist()
        texts = [decode(self._tokenizer, replies.said(row)) for row in range(len(self._probes))]
        return [
            {"prompt": probe.text, "reply": text, "reward": reward}
            for probe, text, reward in zip(self._probes, texts, rewards, strict=True)
        ]

    def evaluate(self) -> dict[str, float]:
        """The reward model's mean reward of replies sampled to the held-out prompts, always from the same random numbers, and how far
        the policy that wrote them is from the reference (k1, nats per reply)."""
        if not self._held_out:
            return {}
        replies = self._rollout(self._held_out, "evaluation")
        actor, reference = (self._logprobs(role, replies) for role in _POLICIES)
        rewards = rewards_of(self._reward, replies, self.settings.micro_tokens, self.strategy)
        kl = kl_estimate(actor, reference, "k1") * replies.mask
        return {"eval_reward": float(rewards.mean()), "eval_kl": float(kl.sum(1).mean()), "eval_length": float(replies.mask.sum(1).mean())}
