"""Training and evaluation of one site's images: what it learns, and that it is the same every time."""
from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from poweranger.client.training import Spec, Trainer, augmented, configure_gpu, configure_tensorflow, prior_shift
from poweranger.counts import CONFUSION

SPEC = Spec(image_size=28, channels=1, num_classes=3, mean=(0.4,), std=(0.3,), batch_size=8)


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    configure_tensorflow(1)
    for memory_mb in (0, 512):
        configure_gpu(memory_mb)  # no GPU, or one: nothing is raised
    return Trainer(SPEC)


@pytest.fixture
def start(trainer: Trainer) -> np.ndarray:
    """Weights to start from."""
    from poweranger.server.model import build_model

    return np.concatenate([w.ravel() for w in build_model(28, 1, 3, seed=0).get_weights()])


def images(count: int, seed: int = 0, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright square whose size is the class."""
    rng = np.random.default_rng(seed)
    y = (np.arange(count) % 3).astype(np.int32)
    x = rng.integers(0, 120, (count, 28, 28, channels), dtype=np.uint8)
    for image, label in zip(x, y, strict=True):
        side = 6 + 6 * label
        row, column = rng.integers(0, 28 - side, 2)
        image[row : row + side, column : column + side] += 120
    return x, y


def test_it_learns(trainer: Trainer, start: np.ndarray) -> None:
    x, y = images(90)
    weights = start
    for server_round in range(6):
        fit = trainer.train(weights, x, y, learning_rate=0.05, seed=(0, server_round))
        weights = fit.weights
    held_out = images(60, seed=1)
    scores = trainer.evaluate(weights, *held_out)
    assert scores.accuracy > 0.9
    assert scores.accuracy > trainer.evaluate(start, *held_out).accuracy
    assert fit.loss < 0.5
    assert fit.accuracy > 0.8


def test_the_proximal_term_pulls_towards_the_weights_that_training_began_with(start: np.ndarray) -> None:
    x, y = images(8)  # one batch: its gradient is the same in any order
    rate, mu = 0.05, 2.0
    plain, held = (Trainer(Spec(28, 1, 3, (0.4,), (0.3,), dropout=0.0, batch_size=8, momentum=0.0, proximal_mu=value)) for value in (0.0, mu))
    step = plain.train(start, x, y, learning_rate=rate, augment=False).weights
    two = plain.train(start, x, y, learning_rate=rate, epochs=2, augment=False).weights
    for _ in range(2):  # the second time it is another model's anchor that has to be replaced
        held.train(step, x, y, learning_rate=rate, augment=False)
        both = held.train(start, x, y, learning_rate=rate, epochs=2, augment=False).weights
        np.testing.assert_allclose(both, two - rate * mu * (step - start), atol=2e-5)
    assert np.abs(both - two).max() > 1e-3 and held.traces == 2  # of the step and of the evaluation


def test_no_retracing_whatever_comes(trainer: Trainer, start: np.ndarray) -> None:
    x, y = images(30)
    trainer.train(start, x, y, learning_rate=0.05)
    trainer.evaluate(start, x, y)
    before = trainer.traces
    for count in (30, 17, 8, 1):
        fit = trainer.train(start, x[:count], y[:count], learning_rate=0.01 * count, epochs=2, augment=count > 8, seed=(count,))
        trainer.evaluate(fit.weights, x[:count], y[:count])
    assert trainer.traces == before == 2


def test_the_filled_up_batch_changes_nothing(trainer: Trainer, start: np.ndarray) -> None:
    """9 images in batches of 8: the last one's 7 fillers must not count."""
    x, y = images(9)
    scores = trainer.evaluate(start, x, y)
    whole = trainer.evaluate(start, np.concatenate([x] * 8), np.concatenate([y] * 8))  # 72: no filler
    assert scores.counts[CONFUSION].sum() == 9
    assert np.array_equal(8 * scores.counts[CONFUSION], whole.counts[CONFUSION])
    assert scores.loss == pytest.approx(whole.loss, rel=1e-5)
    # One image alone, repeated by hand to a full batch, gives the same step as one filled up.
    alone = trainer.train(start, x[:1], y[:1], learning_rate=0.05, augment=False)
    full = Trainer(Spec(28, 1, 3, (0.4,), (0.3,), dropout=0.0, batch_size=8))
    filled = full.train(start, x[:1], y[:1], learning_rate=0.05, augment=False)
    repeated = full.train(start, np.repeat(x[:1], 8, 0), np.repeat(y[:1], 8), learning_rate=0.05, augment=False)
    assert np.allclose(filled.weights, repeated.weights, atol=1e-5)
    assert filled.loss == pytest.approx(repeated.loss, rel=1e-5)
    assert not np.array_equal(alone.weights, filled.weights)  # dropout is at work in the one, not in the other


def test_evaluation_is_exact(trainer: Trainer, start: np.ndarray) -> None:
    x, y = images(20)
    scores = trainer.evaluate(start, x, y)
    logits = np.asarray(trainer.model(x, training=False), np.float64)
    log_share = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert scores.loss == pytest.approx(-log_share[np.arange(20), y].mean(), rel=1e-5)
    expected = np.zeros((3, 3), int)
    for true, predicted in zip(y, logits.argmax(1), strict=True):
        expected[true, predicted] += 1
    assert np.array_equal(scores.counts[CONFUSION], expected)
    assert scores.accuracy == np.trace(expected) / 20


def test_each_call_stands_for_itself(trainer: Trainer, start: np.ndarray) -> None:
    """Momentum, dropout and order of one call leave no trace in the next; another seed changes the result."""
    x, y = images(30)

    def fit(*seed: int) -> np.ndarray:
        return trainer.train(start, x, y, learning_rate=0.05, epochs=2, seed=seed).weights

    first = fit(0, 1)
    other = fit(0, 2)
    assert np.array_equal(first, fit(0, 1))
    assert not np.array_equal(first, other)


def test_two_fresh_processes_train_alike_bit_for_bit(trainer: Trainer) -> None:
    """What a resumed run rests on: a new process, and one that has trained before, get the same weights."""
    code = """
        import hashlib, sys
        import numpy as np
        from poweranger.client.training import Spec, Trainer, configure_tensorflow
        configure_tensorflow(1)
        trainer = Trainer(Spec(28, 3, 3, (0.4,) * 3, (0.3,) * 3, batch_size=8))
        rng = np.random.default_rng(5)
        x, y = rng.integers(0, 256, (30, 28, 28, 3), dtype=np.uint8), np.arange(30) % 3
        weights = (rng.standard_normal(sum(np.prod(s) for s in trainer.shapes)) * 0.05).astype(np.float32)
        if sys.argv[1] == "used":
            trainer.train(weights, x[:7], y[:7], learning_rate=0.2, seed=(9,))
        for number in (1, 2):
            weights = trainer.train(weights, x, y, learning_rate=0.05, seed=(3, number, 67, 49)).weights
        print(hashlib.sha256(weights.tobytes()).hexdigest(), np.isfinite(weights).all())
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), state], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for state in ("fresh", "used")
    ]
    fresh, used = (process.communicate()[0].decode().split() for process in processes)
    assert fresh == used
    assert len(fresh[0]) == len(hashlib.sha256().hexdigest())
    assert fresh[1] == "True"


def test_grey_images_suit_a_colour_model(start: np.ndarray) -> None:
    colour = Trainer(Spec(28, 3, 3, (0.4,) * 3, (0.3,) * 3, batch_size=8))
    x, y = images(10)
    weights = np.concatenate([w.ravel() for w in colour.model.get_weights()])
    grey, repeated = (colour.train(weights, part, y, learning_rate=0.05).weights for part in (x, np.repeat(x, 3, -1)))
    assert np.array_equal(grey, repeated)


def test_a_memory_mapped_cache_gives_the_same(trainer: Trainer, start: np.ndarray, tmp_path: object) -> None:
    x, y = images(20)
    np.save(f"{tmp_path}/x.npy", x)
    mapped = np.load(f"{tmp_path}/x.npy", mmap_mode="r")
    results = [trainer.train(start, source, y, learning_rate=0.05).weights for source in (x, mapped)]
    assert np.array_equal(*results)


def test_weights_of_another_model_are_refused(trainer: Trainer, start: np.ndarray) -> None:
    with pytest.raises(ValueError, match="the model has"):
        trainer.evaluate(start[:-1], *images(3))


def test_augmentation_flips_and_shifts_within_bounds() -> None:
    side = 20
    x = np.zeros((1, side, side, 1), np.uint8)
    x[0, 5, 4] = 255  # one bright pixel, left of the middle
    at = np.argwhere(augmented(x, np.zeros(400, int), np.random.default_rng(0))[..., 0] == 255)
    assert len(at) == 400  # none lost
    rows, columns = set(at[:, 1].tolist()), set(at[:, 2].tolist())
    assert rows == set(range(3, 8))  # 10 % of 20 pixels each way
    assert columns == set(range(2, 7)) | {side - 1 - column for column in range(2, 7)}  # as it was, and flipped
    edge = np.zeros((1, side, side, 1), np.uint8)
    edge[0, 0] = 200
    tops = augmented(edge, np.zeros(100, int), np.random.default_rng(1))[:, 0, :, 0]
    assert set(np.unique(tops)) == {0, 200}
    assert all(len(np.unique(top)) == 1 for top in tops)  # shifted down, the edge row is repeated: no black border
    assert x.sum() == 255  # the cache itself is untouched


def test_prior_shift_follows_the_shares() -> None:
    even = prior_shift(np.array([10, 10]), np.array([30, 30]))
    assert np.allclose(even, 0)
    rare = prior_shift(np.array([18, 2, 0]), np.array([20, 20, 0]))
    assert rare[0] > 0 > rare[1]
    assert np.isfinite(rare).all()  # a class the site lacks, and one that nobody has
