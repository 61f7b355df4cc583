"""A run's model as a file that other programs load: `python -m poweranger.export --run R --format onnx --out F`.

The file takes images of values 0 to 255 and gives probabilities; the model card is written beside it as `F.md`. The
file is loaded again by the program it is meant for and has to give what Keras gives, else nothing is left behind.
"""
from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from poweranger.client import synthetic
from poweranger.errors import RunFailed, UserError, run_program
from poweranger.model_card import Exported, write_card
from poweranger.origin import project_root
from poweranger.results import find_snapshot, read_info

if TYPE_CHECKING:
    import keras

TOLERANCE = 1e-4  # of a probability; float32 in another order of summation differs by some 1e-6
NOISE, PHANTOMS = 8, 8  # images of the check: what no scanner makes, and what one might


@dataclass(frozen=True)
class Format:
    """How a model is written and read again; `needs` are the packages of the extra `export` for both."""

    suffix: str
    needs: tuple[str, ...]
    write: Callable[[keras.Model, Path, Sequence[str]], None]
    run: Callable[[Path, np.ndarray], np.ndarray]


def export(run: str, which: str | None, form: str, out: Path, *, results: Path, force: bool = False) -> Exported:
    """Write the model and its card; both appear together, or none.

    Parameters
    ----------
    run, which : as `results.find_snapshot` takes them.
    form : a name in `FORMATS`.
    out : the file to write; the card is `<out>.md`. What is there is replaced only with `force`.

    Raises
    ------
    UserError
        When run or snapshot are not there, a package is missing, or `out` exists or cannot be written.
    RunFailed
        When the file does not give the outputs that Keras gives.
    """
    out, card = out.absolute(), out.absolute().with_name(out.name + ".md")
    number, snapshot = find_snapshot(results, run, which)
    folder = snapshot.parent.parent
    info = read_info(folder)
    missing = [name for name in FORMATS[form].needs if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"--format {form} needs {', '.join(missing)}: pip install 'federated-health[export]'")
    for path in (out, card):
        if path.is_dir():
            raise UserError(f"{path} is a folder: choose another --out")
        if path.exists() and not force:
            raise UserError(f"{path} exists already: choose another --out, or add --force to replace it")

    from poweranger.server.model import load_snapshot

    try:
        unfinished = Path(tempfile.mkdtemp(prefix=".export-", dir=out.parent))  # mode 0700
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error.strerror}") from None
    try:
        with _silence():
            model = load_snapshot(snapshot)
            exported = _write_checked(model, info, FORMATS[form], form, unfinished / f"model{FORMATS[form].suffix}", out.name, number, snapshot.name == "best.npz")
        (unfinished / "card").write_text(write_card(folder, info, exported), encoding="utf-8")
        for source, target in ((unfinished / "card", card), (unfinished / f"model{FORMATS[form].suffix}", out)):
            source.chmod(0o600)
            os.replace(source, target)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(unfinished)
    return exported


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m poweranger.export", allow_abbrev=False,
                                     description="Write a run's model for other programs, with a model card, and check it.")
    parser.add_argument("--run", required=True, metavar="R", help="name of the run, or its folder")
    parser.add_argument("--round", metavar="N", help="number of a round, or best (default: the best, else the last)")
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--out", required=True, type=Path, metavar="F", help="the file to write; the card is F.md")
    parser.add_argument("--force", action="store_true", help="replace files that are there")
    wanted = parser.parse_args(arguments)
    done = export(wanted.run, wanted.round, wanted.format, wanted.out, results=project_root() / "results", force=wanted.force)
    print(f"round {done.round}{' (the best)' if done.best else ''} as {done.format}: {wanted.out}; its card: {wanted.out}.md; checked on "
          f"{done.images} images against Keras, largest difference of a probability {done.difference:.1g}")
    return 0


def check_images(image_size: int, channels: int) -> np.ndarray:
    """Images for the check, float32 (n, image_size, image_size, channels), 0 to 255: noise, and phantoms of each class."""
    noise = np.random.default_rng(0).integers(0, 256, (NOISE, image_size, image_size, channels))
    kinds = len(synthetic.CLASSES)
    phantoms = [synthetic.phantom("export", index, index % kinds, image_size, 0) for index in range(PHANTOMS)]
    return np.concatenate([noise, np.repeat(np.stack(phantoms)[..., None], channels, axis=3)]).astype(np.float32)


def _write_checked(model: keras.Model, info: dict[str, Any], how: Format, form: str, path: Path, name: str, number: int, best: bool) -> Exported:
    import keras

    images = check_images(*model.input_shape[2:])
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(model(images)))
    whole = keras.Model(model.input, keras.layers.Softmax(name="probabilities")(model.output), name="federated_health")
    whole(images[:1])  # the exporter to ONNX takes no model that was never called
    try:
        how.write(whole, path, info["federation"]["classes"])
        given = how.run(path, images)
    except OSError:
        raise
    except Exception as error:  # a converter may raise anything
        raise RunFailed(f"the model cannot be written as {form} with the packages that are installed: {error!r}") from error
    difference = float(np.abs(given - expected).max()) if given.shape == expected.shape else float("inf")
    if not difference <= TOLERANCE:
        raise RunFailed(f"the exported model does not give the outputs of Keras (a probability differs by {difference:.2g}, allowed are "
                        f"{TOLERANCE:g}): nothing was written")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Exported(name, form, digest, number, best, model.count_params(), difference, TOLERANCE, len(images))


def _write_keras(model: keras.Model, path: Path, classes: Sequence[str]) -> None:
    model.save(path)


def _run_keras(path: Path, images: np.ndarray) -> np.ndarray:
    import keras

    return np.asarray(keras.saving.load_model(path, compile=False)(images))


def _write_onnx(model: keras.Model, path: Path, classes: Sequence[str]) -> None:
    model.export(path, format="onnx", verbose=False)
    import onnx

    graph = onnx.load(path)
    old = graph.graph.output[0].name
    for node in graph.graph.node:  # the converter calls it Identity:0
        node.output[:] = ["probabilities" if name == old else name for name in node.output]
    graph.graph.output[0].name = "probabilities"
    onnx.helper.set_model_props(graph, {"classes": json.dumps(list(classes))})
    onnx.checker.check_model(graph)
    onnx.save(graph, path)


def _run_onnx(path: Path, images: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"image": images})[0]


def _write_litert(model: keras.Model, path: Path, classes: Sequence[str]) -> None:
    model.export(path, format="litert", verbose=False)


def _run_litert(path: Path, images: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, images)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


FORMATS = {
    "keras": Format(".keras", (), _write_keras, _run_keras),
    "onnx": Format(".onnx", ("onnx", "onnxruntime", "tf2onnx"), _write_onnx, _run_onnx),
    "litert": Format(".tflite", ("ai_edge_litert",), _write_litert, _run_litert),
}


@contextmanager
def _silence() -> Iterator[None]:
    """Keep from the terminal what TensorFlow, the converters and native libraries say of themselves; errors come as exceptions."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    with open(os.devnull, "w") as nowhere:
        try:
            for number in (1, 2):
                os.dup2(nowhere.fileno(), number)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, old in zip((1, 2), kept, strict=True):
                os.dup2(old, number)
                os.close(old)


if __name__ == "__main__":
    run_program("export", main)
