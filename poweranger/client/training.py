"""Training and evaluating the federation's model on one site's images.

One `Trainer` lives as long as its process: building a model anew each round costs memory and time. What it computes
depends only on the weights, the images and the seed words it is given, bit for bit with one thread on a CPU, so that
a resumed run continues as if it had never been broken.
"""
from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from poweranger.counts import CONFUSION, Counts, count
from poweranger.server.model import build_model, split_flat, weight_shapes

SHIFT = 0.1  # largest shift of a training image, as a share of its side
DROPOUT_STREAM = 1  # spawn key of the dropout's seed, apart from the one of order and augmentation


@dataclass(frozen=True)
class Spec:
    """What a federation's model and training step are made of; `mean` and `std` as in `build_model`."""

    image_size: int
    channels: int
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dropout: float = 0.2
    batch_size: int = 16
    momentum: float = 0.9
    proximal_mu: float = 0.0


@dataclass(frozen=True)
class Fit:
    """What training gave: the flat weights, and mean loss and accuracy over the last epoch's training images."""

    weights: np.ndarray
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Evaluation:
    """Mean loss, accuracy, and the counts of `counts.count`."""

    loss: float
    accuracy: float
    counts: Counts


def configure_tensorflow(threads: int) -> None:
    """Import TensorFlow with `threads` threads and little memory; it touches no device, so a fork may follow.

    In a process where TensorFlow already runs, its threads stay as they are.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no noise about an absent GPU
    import keras  # noqa: F401
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:  # initialised before
        pass


def configure_gpu(memory_mb: int) -> None:
    """Let the GPU's memory grow as needed, or cap it at `memory_mb`; without a GPU, or once it is in use, nothing."""
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            if memory_mb:
                tf.config.set_logical_device_configuration(gpu, [tf.config.LogicalDeviceConfiguration(memory_limit=memory_mb)])
            else:
                tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # initialised before
            pass


def prior_shift(local: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Log of the site's class shares over the federation's, smoothed; added to the logits in training only.

    Logit adjustment (Menon et al., 2021, https://arxiv.org/abs/2007.07314), for federated learning as in FedLC
    (Zhang et al., 2022, https://arxiv.org/abs/2209.00189): a site that has few of a class does not unlearn it.

    Parameters
    ----------
    local, total : training images per class, of the site and of the federation, in the same order.

    Returns
    -------
    np.ndarray
        Shape (classes,), float32.
    """
    total = np.maximum(total, 1)  # a class that nobody has must not become log(0)
    share = total / total.sum()
    smooth = local + 0.5 * len(total) * share
    return np.log(smooth / smooth.sum() / share).astype(np.float32)


class Trainer:
    """One model and one optimiser, reused over rounds; every call brings its own weights.

    The training step is SGD with Nesterov momentum on the cross-entropy, its momentum fresh in each call; with
    `proximal_mu` the loss has a term of FedProx, mu/2 |w - w0|^2, where w0 are the weights that training began with
    (Li et al., 2018, https://arxiv.org/abs/1812.06127). Steps are traced once: batches have one shape, the last one filled up with images of weight 0.
    """

    def __init__(self, spec: Spec) -> None:
        import keras
        import tensorflow as tf

        self.spec = spec
        self.model = model = build_model(
            spec.image_size, spec.channels, spec.num_classes, dropout=spec.dropout, mean=spec.mean, std=spec.std
        )
        self.shapes = weight_shapes(model)
        self.traces = 0
        self._optimizer = optimizer = keras.optimizers.SGD(0.0, momentum=spec.momentum, nesterov=spec.momentum > 0)
        optimizer.build(model.trainable_variables)
        self._dropout = model.get_layer("dropout").seed_generator if spec.dropout else None  # Keras makes none for rate 0
        mu = spec.proximal_mu
        self._anchors = anchors = [tf.Variable(tf.zeros_like(v), trainable=False) for v in model.trainable_variables] if mu else []
        self._sums = sums = tf.Variable(tf.zeros(2), trainable=False)  # of the epoch: loss, correct
        side, size = spec.image_size, spec.batch_size
        images = tf.TensorSpec((size, side, side, spec.channels), tf.uint8)
        numbers = tf.TensorSpec((size,), tf.int32)
        flags = tf.TensorSpec((size,), tf.float32)
        classes = tf.TensorSpec((spec.num_classes,), tf.float32)

        @tf.function(autograph=False, input_signature=[images, numbers, flags, classes])
        def step(x: tf.Tensor, y: tf.Tensor, weight: tf.Tensor, shift: tf.Tensor) -> None:
            self.traces += 1  # runs only while tracing
            with tf.GradientTape() as tape:
                logits = model(x, training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits + shift) * weight
                loss = tf.reduce_sum(losses) / tf.reduce_sum(weight)
            gradients = tape.gradient(loss, model.trainable_variables)
            if mu:
                gradients = [g + mu * (v - anchor) for g, v, anchor in zip(gradients, model.trainable_variables, anchors, strict=True)]
            optimizer.apply(gradients, model.trainable_variables)
            correct = tf.cast(tf.argmax(logits, 1, tf.int32) == y, tf.float32)
            sums.assign_add(tf.stack([tf.reduce_sum(losses), tf.reduce_sum(correct * weight)]))

        @tf.function(autograph=False, input_signature=[images])
        def forward(x: tf.Tensor) -> tf.Tensor:
            self.traces += 1
            return model(x, training=False)

        @tf.function(autograph=False, input_signature=[tf.TensorSpec((sum(map(math.prod, self.shapes)),), tf.float32)])
        def load(flat: tf.Tensor) -> None:
            parts = tf.split(flat, [math.prod(shape) for shape in self.shapes])
            for variable, part, shape in zip(model.weights, parts, self.shapes, strict=True):
                variable.assign(tf.reshape(part, shape))

        @tf.function(autograph=False, input_signature=[])
        def rest() -> None:
            for variable in optimizer.variables:
                if variable.shape.rank:  # momenta; the scalars are the step count and the learning rate
                    variable.assign(tf.zeros_like(variable))

        # These never retrace. None needs AutoGraph, which looks through all modules, and so copies what a fork shares.
        self._step, self._forward = step.get_concrete_function(), forward.get_concrete_function()
        self._load, self._rest = load.get_concrete_function(), rest.get_concrete_function()

    def train(
        self,
        weights: np.ndarray,
        x: np.ndarray,
        y: np.ndarray,
        *,
        learning_rate: float,
        epochs: int = 1,
        augment: bool = True,
        shift: np.ndarray | None = None,
        seed: Sequence[int] = (0,),
    ) -> Fit:
        """Train `weights` for `epochs` passes over the images.

        Parameters
        ----------
        weights : flat vector, as `messages.pack` makes it.
        x : uint8 (n, image_size, image_size, 1 or 3), n at least 1; grey images are repeated for a model of 3 channels.
        y : int (n,), classes in the federation's order.
        shift : `prior_shift`, or None.
        seed : whole numbers, at least 0, that settle order, augmentation and dropout.
        """
        import tensorflow as tf

        spec, n = self.spec, len(y)
        self._set_weights(weights)
        for anchor, variable in zip(self._anchors, self.model.trainable_variables, strict=False):  # none without proximal_mu
            anchor.assign(variable)
        self._optimizer.learning_rate.assign(learning_rate)
        self._rest()
        if self._dropout:
            self._dropout.state.assign(np.random.SeedSequence(seed, spawn_key=(DROPOUT_STREAM,)).generate_state(2))
        rng = np.random.default_rng(seed)
        offset = tf.constant(np.zeros(spec.num_classes) if shift is None else shift, tf.float32)
        for _ in range(epochs):
            self._sums.assign(tf.zeros(2))
            for index, weight in _batches(rng.permutation(n), spec.batch_size):
                images = augmented(x, index, rng) if augment else x[index]
                self._step(self._tensor(images), tf.constant(y[index], tf.int32), tf.constant(weight), offset)
        loss, correct = self._sums.numpy().tolist()
        flat = np.concatenate([w.ravel() for w in self.model.get_weights()])
        return Fit(flat, loss / n, correct / n)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """The model's answers to uint8 images (n, h, w, 1 or 3): float32 (n, classes), a batch at a time."""
        out = np.empty((len(x), self.spec.num_classes), np.float32)
        for index, weight in _batches(np.arange(len(x)), self.spec.batch_size):
            real = int(weight.sum())
            out[index[:real]] = self._forward(self._tensor(x[index])).numpy()[:real]
        return out

    def evaluate(self, weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> Evaluation:
        """Score `weights` on n >= 1 images; `x` and `y` as for `train`, in the order given and unchanged."""
        self._set_weights(weights)
        logits = self.logits(x).astype(np.float64)
        counts = count(logits, y)
        top = logits.max(1, keepdims=True)
        losses = np.log(np.exp(logits - top).sum(1)) + top[:, 0] - logits[np.arange(len(y)), y]
        return Evaluation(float(losses.mean()), float(np.trace(counts[CONFUSION]) / len(y)), counts)

    def _set_weights(self, flat: np.ndarray) -> None:
        import tensorflow as tf

        split_flat(flat, self.shapes)  # says when the size is wrong
        self._load(tf.constant(flat, tf.float32))

    def _tensor(self, images: np.ndarray) -> object:
        import tensorflow as tf

        if images.shape[-1] < self.spec.channels:
            images = np.repeat(images, self.spec.channels, axis=-1)
        return tf.constant(images)


def _batches(order: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cut `order` into batches of indices, each with its weights; the last one repeats indices with weight 0."""
    for start in range(0, len(order), size):
        index = order[start : start + size]
        weight = np.zeros(size, np.float32)
        weight[: len(index)] = 1
        yield np.resize(index, size), weight


def augmented(x: np.ndarray, index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The images `x[index]`, each flipped left-right or not and shifted by up to `SHIFT` of its side, edges repeated."""
    side, n = x.shape[1], len(index)
    reach = round(SHIFT * side)
    at = np.arange(side) + rng.integers(-reach, reach + 1, (2, n, 1))
    rows, columns = np.clip(at, 0, side - 1)
    flip = rng.random(n) < 0.5
    columns[flip] = columns[flip, ::-1]
    return x[index[:, None, None], rows[:, :, None], columns[:, None, :]]
