"""What is counted, in Prometheus' words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from playground.models import Loaded, LoadedReward

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Meters:
    """The counters of one server; in a registry of their own, so that several servers fit into a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("playground_requests", "Requests answered", ["path", "model", "status"], registry=self.registry)
        self.tokens = Counter("playground_tokens", "Tokens: read, reused (of those), written", ["model", "kind"], registry=self.registry)
        self.seconds = Histogram(
            "playground_request_seconds", "From a request to the end of its answer", ["path"], buckets=_SECONDS, registry=self.registry
        )
        self.first_token = Histogram(
            "playground_first_token_seconds", "From a request to its first token", ["model"], buckets=_SECONDS, registry=self.registry
        )
        self.at_work = Gauge("playground_requests_at_work", "Requests that are being answered", registry=self.registry)

    def watch(self, loaded: Callable[[], dict[str, Loaded | LoadedReward]]) -> None:
        """Tell how busy the models in memory are whenever somebody asks."""
        self.registry.register(_Models(loaded))

    def page(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)


class _Models(Collector):
    def __init__(self, loaded: Callable[[], dict[str, Loaded | LoadedReward]]) -> None:
        self._loaded = loaded

    def collect(self) -> Iterable[GaugeMetricFamily]:
        live = GaugeMetricFamily("playground_samples_live", "Samples being written", labels=["model"])
        waiting = GaugeMetricFamily("playground_prompts_waiting", "Prompts that wait for a row", labels=["model"])
        for name, model in self._loaded().items():
            if (engine := model.worker.engine) is not None:
                rows, prompts = engine.load
                live.add_metric([name], rows)
                waiting.add_metric([name], prompts)
        yield live
        yield waiting
