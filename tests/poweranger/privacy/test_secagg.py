"""Secure aggregation: right sums, also when clients drop out; no site can be found in what the server receives."""
from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ConfigRecord, Context, Message, RecordDict

from poweranger.errors import RunFailed
from poweranger.messages import pack
from poweranger.privacy import secagg
from poweranger.privacy.declared import Harmless
from poweranger.privacy.secagg_server import CannotOpen, Phase, merged_reply
from poweranger.results import Run, load_weights
from poweranger.server.exchange import Answer
from tests.poweranger.privacy.conftest import Part, letter, parts

SIZE = 2000
ALL = {"min_fit_clients": 3, "min_evaluate_clients": 3, "fraction_evaluate": 1.0, "secure_aggregation": True}


class Sites:
    """Sites spoken to without a network; `gone` names those that do not answer from a step on."""

    def __init__(self, sites: list[Part], gone: dict[str, str] | None = None) -> None:
        self.sites, self.gone = sites, gone or {}
        self.apps = {node: site.app() for node, site in enumerate(sites, 1)}
        self.contexts = {node: Context(1, node, {"client-id": site.name}, RecordDict(), {}) for node, site in enumerate(sites, 1)}
        self.received: list[RecordDict] = []
        self.order: list[str] = []

    def names(self) -> dict[str, int]:
        return {site.name: node for node, site in enumerate(self.sites, 1)}

    def ask(self, messages: list[Message], step: str) -> list[Answer]:
        self.order.append(step)
        answers = []
        for message in messages:
            node = message.metadata.dst_node_id
            name = self.sites[node - 1].name
            since = self.gone.get(name)
            if since is not None and since in self.order:
                answers.append(Answer(name, "late", 1.0, "no answer"))
                continue
            try:
                reply = self.apps[node](letter(message.content, message.metadata.message_type, node), self.contexts[node])
            except Exception as error:
                answers.append(Answer(name, "failed", 0.0, str(error)))
            else:
                self.received.append(RecordDict(dict(reply.content)))
                answers.append(Answer(name, "ok", 0.0, message=reply))
        return answers


def phase(sites: Sites, ask: Callable[[list[Message], str], list[Answer]] | None = None) -> tuple[Phase, dict[str, np.ndarray]]:
    config = ConfigRecord({"secure-aggregation": True, "classes": ["a", "b"]})
    content = {"arrays": pack([np.zeros(SIZE)]), "config": config}
    made = Phase("run 1 fit", "train", sites.names(), 0.6, 2, SIZE)
    return made, made.run([letter(RecordDict(dict(content)), "train", node) for node in sites.names().values()], ask or sites.ask)


def weighted(sites: list[Part]) -> np.ndarray:
    return sum(site.images * site.update.astype(np.float64) for site in sites) / sum(site.images for site in sites)


def test_the_sum_is_that_of_the_sites_to_the_last_bit_of_a_weight() -> None:
    sites = parts(5, SIZE)
    _, sums = phase(Sites(sites))
    content = merged_reply("train", sums, np.zeros(SIZE), 2, uniform=False)
    found = content.array_records["arrays"]["weights"].numpy()
    assert np.array_equal(found, weighted(sites).astype(np.float32))
    metrics = content.metric_records["metrics"]
    assert metrics["num-examples"] == 150 and metrics["loss"] == pytest.approx(0.5) and metrics["accuracy"] == pytest.approx(0.75)


@pytest.mark.parametrize("step", ["keys", "shares", "", "unmask"])
def test_sites_that_drop_out_at_any_step_do_not_spoil_the_sum(step: str) -> None:
    sites = parts(5, SIZE)
    made, sums = phase(Sites(sites, {"C2": step, "C5": step}))
    there = sites if step == "unmask" else [sites[0], *sites[2:4]]
    assert int(sums["clients"][0]) == len(there)
    assert np.allclose(sums["weights"] / sums["examples"][0], weighted(there), atol=1e-8)
    assert {name for name, answer in made.answers.items() if answer.outcome == "ok"} == {site.name for site in there}


@pytest.mark.parametrize("step", ["keys", "shares", "", "unmask"])
def test_below_the_threshold_nothing_is_opened(step: str) -> None:
    with pytest.raises(CannotOpen, match="2 of 5 clients are left.*3 are needed"):
        phase(Sites(parts(5, SIZE), {"C1": step, "C2": step, "C5": step}))


def test_a_site_with_a_bad_answer_leaves_and_the_others_go_on() -> None:
    sites = parts(4, SIZE)
    sites[1].update[7] = np.nan
    sites[2].update[7] = 1e30
    made, sums = phase(Sites([*sites, *parts(6, SIZE)[4:]]))
    assert [made.answers[name].outcome for name in ("C1", "C2", "C3", "C4")] == ["ok", "failed", "failed", "ok"]
    assert "weights are not finite, or too large" in made.answers["C2"].reason and int(sums["clients"][0]) == 4


def test_a_vector_that_is_none_costs_its_site_the_round_and_nobody_else() -> None:
    sites = Sites(parts(5, SIZE))

    def garbled(messages: list[Message], step: str) -> list[Answer]:
        answers = sites.ask(messages, step)
        for answer in answers:
            if step == "" and answer.client_id in ("C2", "C4") and answer.message:
                array = answer.message.content.array_records["arrays"]["masked"]
                array.data = b"" if answer.client_id == "C2" else Array(np.zeros(3, np.uint64)).data
        return answers

    made, sums = phase(sites, ask=garbled)
    assert [name for name, answer in sorted(made.answers.items()) if answer.outcome == "excluded"] == ["C2", "C4"]
    assert np.allclose(sums["weights"] / sums["examples"][0], weighted([sites.sites[k] for k in (0, 2, 4)]), atol=1e-8)


def alike(content: RecordDict, site: Part) -> float:
    """How alike a site's update and the received vectors are at most: the correlation, at every place where it may stand."""
    found = [0.0]
    for record in content.array_records.values():
        for array in record.values():
            raw = array.numpy()
            for vector in (raw, raw.view(np.int64)) if raw.dtype == np.uint64 else (raw,):
                pieces = [vector[start : start + SIZE].astype(np.float64) for start in range(min(8, vector.size - SIZE + 1))]
                found += [abs(np.corrcoef(piece, site.update)[0, 1]) for piece in pieces if piece.std()]
    return max(found)


def test_a_server_that_keeps_everything_finds_no_site_in_it(federate: Callable[..., Run]) -> None:
    sites, plain, secret = parts(4, SIZE), [], []
    sites[2].confusion = (1, 7, 5, 0)
    federate(sites, plain, min_fit_clients=3, fraction_evaluate=1.0)
    assert all(max(alike(content, site) for content in plain) > 0.9 for site in sites), "the spy sees what is plain"
    run = federate(sites, secret, **ALL)

    assert len(secret) > 4 * 8  # four steps a phase, two phases
    for site in sites:
        assert max(alike(content, site) for content in secret) < 0.15  # six deviations of chance
        term = secagg.encode(secagg.fields("train", 2, SIZE)[1:2], {"weights": site.update.astype(np.float64) * site.images}, 4)
        for content in secret:
            for record in content.array_records.values():
                for array in record.values():
                    assert array.dtype != "uint64" or not np.isin(term, array.numpy()).any()
    assert all(not content.metric_records for content in secret)
    pairs = [content.array_records["arrays"]["masked"].numpy() for content in secret if "arrays" in content.array_records and "masked" in content.array_records["arrays"]]
    differences = [RecordDict({"arrays": pack([(one - other).view(np.int64)])}) for k, one in enumerate(pairs[:4]) for other in pairs[:k]]
    assert all(alike(content, site) < 0.15 for content in differences for site in sites)

    (weights,) = load_weights(run.path / "models" / "round_001.npz")
    assert np.allclose(weights, weighted(sites), atol=1e-7)
    with (run.path / "metrics" / "eval_metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["accuracy"]) == pytest.approx((3 * 5 + 1) / (3 * 6 + 13)) and float(row["loss"]) == pytest.approx(0.25)
    assert (run.path / "metrics" / "fit_client_metrics.csv").read_text().count("\n") == 1  # the header: no site has figures
    assert any("single clients" in text for text in run.info["privacy"]["not_possible"])


def test_it_goes_with_noise(federate: Callable[..., Run]) -> None:
    sites = parts(3, SIZE, scale=0.001)
    run = federate(sites, dp="central", dp_noise_multiplier=0.5, **ALL)
    (weights,) = load_weights(run.path / "models" / "round_001.npz")
    noise = weights - sum(site.update for site in sites) / 3
    assert abs(noise.std() / (0.5 / 3) - 1) < 5 / np.sqrt(2 * SIZE) and run.info["privacy"]["epsilon"] > 1


def test_a_round_that_cannot_be_opened_fails_with_the_reason(federate: Callable[..., Run]) -> None:
    sites = parts(3, SIZE)
    for site in sites[:2]:
        site.update[0] = np.inf
    with pytest.raises(RunFailed, match="1 of 3 clients are left for secure aggregation, 2 are needed"):
        federate(sites, max_failed_rounds=1, **ALL)


@pytest.mark.parametrize(
    ("step", "change", "words"),
    [
        ("query.secagg_keys", {"threshold": 1}, "threshold above half"),
        ("query.secagg_keys", {"clients": 2, "threshold": 2}, "would not hide"),
        ("query.secagg_shares", {"mask_keys": [b"", b"", b""]}, "not one pair a client"),
        ("query.secagg_shares", {"phase": "another"}, "does not follow the steps"),
        ("train", {"peers": [0]}, "too few"),
        ("query.secagg_unmask", {"survivors": [0]}, "the sum of 1 clients"),
        ("query.secagg_unmask", {"survivors": [1, 2]}, "this site among them"),
    ],
)
def test_a_site_does_not_follow_a_server_that_wants_more_than_the_sum(step: str, change: dict[str, Any], words: str) -> None:
    sites = Sites(parts(3, SIZE))
    said: list[str] = []

    def greedy(messages: list[Message], name: str) -> list[Answer]:
        for message in messages:
            if message.metadata.message_type == step and message.metadata.dst_node_id == 1:
                message.content.config_records["secagg"].update(change)
        answers = sites.ask(messages, name)
        said.extend(answer.reason for answer in answers if answer.client_id == "C1")
        return answers

    with contextlib.suppress(CannotOpen):
        phase(sites, ask=greedy)
    assert any(words in reason for reason in said), said


def test_a_site_unmasks_once() -> None:
    sites = Sites(parts(3, SIZE))
    phase(sites)
    again = letter(RecordDict({"secagg": ConfigRecord({"phase": "run 1 fit", "survivors": [0, 1]})}), "query.secagg_unmask", 1)
    with pytest.raises(Harmless, match="does not follow the steps"):
        sites.apps[1](again, sites.contexts[1])


def test_numbers_that_would_overflow_or_are_none_are_refused() -> None:
    part = [secagg.Field("loss", 1, True), secagg.Field("count", 2, False)]
    total = np.sum([secagg.encode(part, {"loss": -1.25, "count": [3, 2**40]}, 3) for _ in range(3)], axis=0, dtype=np.uint64)
    found = secagg.decode(part, total)
    assert found["loss"][0] == -3.75 and found["count"].tolist() == [9, 3 * 2**40]
    for bad in (np.nan, np.inf, 2.0**40):
        with pytest.raises(ValueError, match="loss"):
            secagg.encode(part, {"loss": bad}, 3)


@pytest.mark.parametrize(("clients", "share", "needed"), [(3, 0.6, 2), (3, 1.0, 3), (5, 0.6, 3), (10, 0.6, 6), (10, 0.51, 6), (4, 0.51, 3)])
def test_the_threshold_is_above_half(clients: int, share: float, needed: int) -> None:
    assert secagg.threshold_of(clients, share) == needed
