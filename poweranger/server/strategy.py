"""`Saveable`: the rounds of any of Flower's strategies, each guarded, bounded in time and saved.

It is a mixin in front of the strategy (see `strategies.py`): the strategy aggregates the weights of the replies that
passed the guards; sampling, time, figures and files are the same for all.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from poweranger.errors import RunFailed
from poweranger.messages import ARRAYS, METRICS, NUM_EXAMPLES, pack, unpack
from poweranger.results import EVAL, FIT
from poweranger.run_config import answers_needed
from poweranger.server.figures import absent, apart, class_rows, confusion_rows, evaluation_metrics, merge
from poweranger.server.model import split_flat
from poweranger.server.phase import ask, draw, fill
from poweranger.server.session import Round, Session
from poweranger.server.utils import spell_seconds, weighted_means

PLAIN = ("round", "client_id", "num_examples", "seconds", "clipped")  # columns that are no metric of the model


class Sampled:
    """The nodes drawn for a phase, as the grid that Flower's `configure_*` sees."""

    def __init__(self, nodes: list[int]) -> None:
        self._nodes = nodes

    def get_node_ids(self) -> list[int]:
        """The drawn nodes."""
        return self._nodes


class Saveable(Strategy):
    """The round loop, in front of a Flower strategy, which gets `arguments`.

    Attributes
    ----------
    KEEPS : names of what the strategy keeps between rounds, see `state`.
    """

    KEEPS: tuple[str, ...] = ()

    def __init__(self, session: Session, **arguments: Any) -> None:
        # Sampling is done by `draw`: what Flower sees are the drawn nodes, all of which it takes.
        everyone = {"fraction_train": 1.0, "fraction_evaluate": 1.0, "min_train_nodes": 1, "min_evaluate_nodes": 1, "min_available_nodes": 1}
        super().__init__(**everyone, **arguments)  # type: ignore[call-arg]
        self.session = session

    def state(self) -> dict[str, np.ndarray]:
        """What a resumed run needs besides the weights: arrays under the names in `KEEPS`, or none yet."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go back to what `state` gave; an empty one stands for the beginning."""

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run the rounds from `session.first_round` to `num_rounds`; a phase is bounded by `timeout` seconds.

        Raises
        ------
        RunFailed
            When `max-failed-rounds` rounds in a row, or the last one, gave no model.
        """
        result, failed, begin = Result(), 0, time.monotonic()
        arrays = result.arrays = initial_arrays
        self.take_up()
        try:
            for number in range(self.session.first_round, num_rounds + 1):
                current = Round(number)
                fitted = self.fit(current, arrays, train_config or ConfigRecord(), timeout)
                if fitted is None:
                    failed += 1
                    self.commit(current, None, num_rounds, begin)
                    if failed >= self.session.config["max-failed-rounds"]:
                        raise RunFailed(f"{failed} round(s) in a row, up to round {number}, gave no model: {current.failure}; participation.csv names the reasons")
                    continue
                failed = 0
                arrays = result.arrays = fitted
                result.train_metrics_clientapp[number] = MetricRecord(dict(current.figures))
                figures = self.evaluate(current, arrays, evaluate_config or ConfigRecord(), timeout)
                result.evaluate_metrics_clientapp[number] = MetricRecord(dict(figures))
                if evaluate_fn and (central := evaluate_fn(number, arrays)):
                    result.evaluate_metrics_serverapp[number] = central
                self.commit(current, arrays, num_rounds, begin)
                if number < num_rounds and (reason := self.why_stop(number)):
                    self.session.save()
                    self.session.log(f"the run stops early after round {number} of {num_rounds}: {reason}")
                    self.session.run.update(stopped_early=True, reason=f"stopped early: {reason}")
                    break
        finally:
            self.session.save()
        if failed:
            raise RunFailed(f"the last {failed} round(s) gave no model: {current.failure}; participation.csv names the reasons")
        return result

    def take_up(self) -> None:
        """Give the strategy of a resumed run what it had kept."""
        session = self.session
        kept = session.run.last_state()
        if set(kept) == set(self.KEEPS):
            self.restore(kept)
        elif self.KEEPS and session.first_round > 1:
            session.log(f"nothing is saved of what {session.config['strategy']} keeps between rounds: it begins as in a new run")

    def why_stop(self, number: int) -> str:
        """Why round `number` shall be the last although more were asked for; empty when the run goes on."""
        clients = [site.client_id for site in self.session.sites.sites()]
        return self.session.protection.why_stop(clients) or self.session.best.why_stop(number)

    def fit(self, current: Round, arrays: ArrayRecord, config: ConfigRecord, timeout: float) -> ArrayRecord | None:
        """Train on a sample of the clients; the new global weights, or None when no answer was usable."""
        protection = self.session.protection
        names = draw(self.session, current.number, FIT)
        if reason := protection.charge(sorted(names.values())):
            current.failure = reason
            return None
        fill(self.session, config, current.number)
        messages = self.configure_train(current.number, arrays, config, cast(Grid, Sampled(list(names)))) if names else []
        gathered = ask(self.session, current, list(messages), names, FIT, timeout)
        good = [answer for answer in gathered.answers if answer.outcome == "ok"]
        current.fitted = f"{len(good)}/{len(gathered.answers)}"
        needed = answers_needed(self.session.config)
        if len(good) < needed and names:  # chance may have drawn nobody: then the round is its noise
            current.failure = gathered.failure or ("no usable answer" if not good else f"{len(good)} usable answers, {self.session.config['strategy']} needs {needed}")
            return None
        figures, examples = gathered.figures, {name: f.num_examples for name, f in gathered.figures.items()}
        if protection.private:
            replies = protection.replies(unpack(arrays).astype(np.float64), gathered.replies, examples, len(good))
        else:
            replies = [self.strip(reply, examples[name]) for name, reply in gathered.replies.items()]
        fitted = self.combine(current.number, replies)
        if fitted is None:
            current.failure = "the aggregate is not finite"
            return None
        rows = [{"num_examples": f.num_examples, **f.metrics} for f in figures.values()]
        current.figures = weighted_means(rows, PLAIN)
        current.figures |= apart(current.rows.get("fit_client_metrics", ()), PLAIN)[0]
        current.figures |= protection.figures([f.metrics for f in figures.values()])
        current.add("fit_metrics", **current.figures)
        return fitted

    def combine(self, number: int, replies: list[Message]) -> ArrayRecord | None:
        """What the strategy makes of the replies, float32; None when it is not finite, and the strategy is as before."""
        before = self.state()
        with np.errstate(over="ignore", invalid="ignore"):  # looked for below
            fitted, _ = self.aggregate_train(number, replies)
        flat = None if fitted is None else unpack(fitted)
        if fitted is None or flat is None or not all(np.isfinite(array).all() for array in (flat, *self.state().values())):
            self.restore(before)
            return None
        return fitted if all(array.dtype == "float32" for array in fitted.values()) else pack([flat])

    def evaluate(self, current: Round, arrays: ArrayRecord, config: ConfigRecord, timeout: float) -> dict[str, float]:
        """Evaluate on a sample of the clients; the figures over all of them."""
        if not self.session.config["fraction-evaluate"]:
            return {}
        names = draw(self.session, current.number, EVAL)
        fill(self.session, config, current.number)
        messages = self.configure_evaluate(current.number, arrays, config, cast(Grid, Sampled(list(names))))
        gathered = ask(self.session, current, list(messages), names, EVAL, timeout)
        figures = gathered.figures
        if not figures:
            self.session.log(f"round {current.number}: {gathered.failure or 'no usable evaluation'}: participation.csv names the reasons")
            return {}
        found = weighted_means([{"num_examples": f.num_examples, **f.metrics} for f in figures.values()], PLAIN)
        counts, classes = merge([f.counts for f in figures.values()]), self.session.federation.classes
        found |= evaluation_metrics(counts, classes)
        far, current.worst = apart(current.rows.get("eval_client_metrics", ()), PLAIN)
        found |= far
        for name, rows in (("confusion", confusion_rows(counts, classes)), ("class_metrics", class_rows(counts, classes, self.session.config["wanted-sensitivity"]))):
            for row in rows:
                current.add(name, **row)
        if (missing := absent(counts, classes)) != self.session.absent:
            self.session.absent = missing
            if missing:
                self.session.log(f"round {current.number}: no validation image of {', '.join(missing)}: figures over the classes are of the others only")
        current.figures |= found
        current.add("eval_metrics", **{"loss": None, **found})
        return found

    def strip(self, reply: Message, examples: int) -> Message:
        """Only what the strategy aggregates: Flower's refuses replies whose metrics have different names."""
        arrays = reply.content.array_records[ARRAYS]
        reply.content = RecordDict({ARRAYS: arrays, METRICS: MetricRecord({NUM_EXAMPLES: examples})})
        return reply

    def commit(self, current: Round, arrays: ArrayRecord | None, rounds: int, begin: float) -> None:
        """The round is over. `Session.save` writes its files, normally while the clients work on the next one: they need not wait for the disk."""
        session, number = self.session, current.number
        session.save()
        session.exchange.check()
        state, seconds = self.state(), time.monotonic() - current.start
        left = (time.monotonic() - begin) / (number - session.first_round + 1) * (rounds - number)
        best = session.best.entry() if session.best.take(number, current.rows.get("eval_metrics", ())) else {}
        session.last = {"seconds_left": round(left, 1), "best": session.best.entry(), "worst": current.worst, **current.figures}

        def save() -> None:
            weights = None if arrays is None else split_flat(unpack(arrays), session.shapes)
            session.run.commit_round(number, current.rows, weights, state, best)
            if session.events:
                session.events.add(number, current.rows)
            parts = [*current.in_words(), *(["best so far"] if best else []), f"clients {current.fitted}", spell_seconds(seconds)]
            parts += [f"about {spell_seconds(left)} left"] if number < rounds else []
            session.log(f"round {number}/{rounds}  " + "  ".join(parts))

        session.unsaved = save
