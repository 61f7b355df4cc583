"""What whoever gets an exported model has to know of it, as Markdown.

The sections are those of Mitchell et al., "Model Cards for Model Reporting", 2019, https://arxiv.org/abs/1810.03993,
as far as a program can fill them; the others are marked for the author.
"""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from poweranger.results import Table
from poweranger.statistics import auc_interval, wilson

MEANS = {"auc": "AUC, mean over the classes", "average_precision": "average precision, mean over the classes", "ece": "expected calibration error",
         "loss": "loss"}
BLANK = "**[to be filled in by the author]**"


@dataclass(frozen=True)
class Exported:
    """The file that the card is about.

    Attributes
    ----------
    sha256 : of its content, in hexadecimal digits.
    difference : the largest difference from Keras in one probability, over `images` images; `tolerance` was allowed.
    best : whether the round was chosen as the best of its run.
    """

    name: str
    format: str
    sha256: str
    round: int
    best: bool
    parameters: int
    difference: float
    tolerance: float
    images: int


def write_card(run: Path, info: Mapping[str, Any], exported: Exported) -> str:
    """The card of a run's model.

    Parameters
    ----------
    run, info : the run's folder and the content of its `run.toml`.
    """
    parts = [
        f"# Model card: {_text(exported.name)}",
        f"Written when round {exported.round} of the run `{run.name}` was exported. {BLANK} marks what only its author can say.",
        *_model(info, exported), *_use(), *_data(info), *_figures(run, info, exported), *_privacy(run, info, exported), *_making(info),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _model(info: Mapping[str, Any], exported: Exported) -> list[str]:
    federation = info["federation"]
    size, channels = federation["image_size"], federation["channels"]
    numbers = [f"{a:.4f} and {b:.4f}" for a, b in zip(federation["mean"], federation["std"], strict=True)]
    colour = "grey" if channels == 1 else "RGB"
    return [
        "## Model",
        f"A convolutional network of {exported.parameters:,} parameters that sorts one {colour} image into "
        f"{len(federation['classes'])} classes, trained by federated learning.",
        _table(["", ""], [
            ["file", f"`{exported.name}`, {exported.format}"],
            ["SHA-256", f"`{exported.sha256}`"],
            ["input", f"`image`: float32 (n, {size}, {size}, {channels}), values 0 to 255"],
            ["output", f"probabilities: float32 (n, {len(federation['classes'])}), of the classes in this order: "
                       + ", ".join(f"{number} {_text(name)}" for number, name in enumerate(federation["classes"]))],
            ["check", f"{exported.images} images through this file and through Keras: no probability differs by more than "
                      f"{max(exported.difference, 1e-7):.1g} (allowed: {exported.tolerance:g})"],
        ]),
        f"Inside the model: scaling to 0..1, standardisation (mean and deviation {'; '.join(numbers)}), softmax. To be done before, as in "
        f"training: turn the image upright by its EXIF orientation; make it {colour}; bring more than 8 bits, and DICOM, to 0 to 255; scale "
        f"the longer side to {size} pixels (bilinear), centre the shorter one and repeat its border pixels outwards. "
        f"`python -m poweranger.predict` does all this.",
    ]  # fmt: skip


def _use() -> list[str]:
    return [
        "## Intended use",
        f"- For what, by whom, on which images: {BLANK}\n- Not to be used for: {BLANK}\n- Ethics approval, consent, licence: {BLANK}",
        "It is no medical device. No use on patients follows from the figures below.",
    ]


def _data(info: Mapping[str, Any]) -> list[str]:
    classes = info["federation"]["classes"]
    rows = []
    for name, site in sorted(info.get("sites", {}).items()):
        counts = [f"{site['train_counts'].get(c, 0)} + {site['validation_counts'].get(c, 0)}" for c in classes]
        made_up = "synthetic" if site["synthetic"] else "real"
        rows.append([_text(name), made_up, f"{site['train']} + {site['validation']}", *counts, str(site["unreadable"])])
    return [
        "## Data",
        "Images of each site, for training + for validation (the split goes by the files' contents, not by patients):",
        _table(["site", "images", "all", *map(_text, classes), "unreadable"], rows),
        f"Where they come from, scanners, years, patients, who labelled them and how: {BLANK}",
    ]


def _figures(run: Path, info: Mapping[str, Any], exported: Exported) -> list[str]:
    classes = info["federation"]["classes"]
    confusion = _confusion(run, classes, exported.round)
    heading = "## Figures"
    if not confusion.sum():
        return [heading, f"Round {exported.round} was not evaluated at the sites. {BLANK}"]
    hits, actual, predicted, total = np.diag(confusion), confusion.sum(1), confusion.sum(0), confusion.sum()
    rows = [["accuracy", "", _share(hits.sum(), total)]]
    rows.append(["balanced accuracy", "", _balanced(hits, actual)])
    for k, name in enumerate(classes):
        rows.append(["sensitivity", _text(name), _share(hits[k], actual[k])])
        rows.append(["specificity", _text(name), _share(total - actual[k] - predicted[k] + hits[k], total - actual[k])])
    rows += [["AUC against the rest", _text(row["class"]), _area(row)] for row in _rows(run, "class_metrics", exported.round) if row["auc"]]
    others = _row(run, "eval_metrics", exported.round)
    rows += [[words, "", f"{float(others[name]):.3f}"] for name, words in MEANS.items() if others.get(name)]
    chosen = (
        f" The round was chosen as the best of its run by {_text(str(info.get('best', {}).get('metric', '')))} on these same images: the figures "
        f"flatter it."
    )
    return [
        heading,
        f"On the {total} validation images of the sites that evaluated round {exported.round}, with 95 % intervals (Wilson's; for "
        f"balanced accuracy that of Zou, Huang and Zhang, for AUC Newcombe's; the others have none). Images of one patient count as independent.{chosen if exported.best else ''}",
        _table(["figure", "class", "value"], rows),
        _table(["true \\ predicted", *map(_text, classes)], [[_text(name), *map(str, row)] for name, row in zip(classes, confusion.tolist(), strict=True)]),
        f"On images of another site, another scanner, and by subgroups (age, sex, ethnicity): {BLANK}",
    ]


def _privacy(run: Path, info: Mapping[str, Any], exported: Exported) -> list[str]:
    config = info.get("config", {})
    lines = []
    if config.get("dp", "off") == "off":
        lines.append("- Differential privacy: off. The model may hold traces of single images.")
    else:
        epsilon = _row(run, "fit_metrics", exported.round).get("epsilon")
        spent = f"epsilon {float(epsilon):.3g} at delta {config['dp-delta']:g} after round {exported.round}" if epsilon else f"epsilon not recorded {BLANK}"
        local = 2 if config["dp"] == "local" else 1  # half of it is accounted
        charged = dict.fromkeys(f"{local * entry['noise_multiplier']:g}" for entry in info.get("privacy", {}).get("spent", []))
        noise = ", then ".join(charged) or f"{config['dp-noise-multiplier']:g}"
        lines.append(
            f"- Differential privacy of each client's whole contribution, {config['dp']}: {spent} (noise multiplier {noise}, "
            f"clipping at {config['dp-clip']:g})." + exported.best * " The figures by which this round was chosen are not covered by it."
        )
    if config.get("secure-aggregation"):
        lines.append("- Secure aggregation: on. Of weights and figures the server saw only sums over the sites; of each site, how many images of each class it has.")
    else:
        lines.append("- Secure aggregation: off. The server saw each site's weights and counts.")
    if config.get("min-site-examples"):
        lines.append(f"- Sites with fewer than {config['min-site-examples']} training images were refused.")
    return ["## Privacy", "No image left its site.\n\n" + "\n".join(lines)]


def _making(info: Mapping[str, Any]) -> list[str]:
    outcome = {name: info[name] for name in ("start", "end", "outcome", "reason", "rounds_done") if name in info}
    return [
        "## How it was made",
        _table(["run", ""], [[name, _text(str(value))] for name, value in outcome.items()]),
        _table(["version of", ""], [[_text(name), _text(str(text))] for name, text in sorted(info.get("versions", {}).items())]),
        _table(["configuration", ""], [[f"`{name}`", _text(str(value))] for name, value in sorted(info.get("config", {}).items())]),
    ]


def _confusion(run: Path, classes: Sequence[str], number: int) -> np.ndarray:
    """Counts (C, C) of a round, true class by predicted class; zeros when it was not evaluated."""
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for row in _rows(run, "confusion", number):
        if row["true_class"] in classes:
            counts[classes.index(row["true_class"])] = [int(row.get(f"predicted_{name}") or 0) for name in classes]
    return counts


def _balanced(hits: np.ndarray, actual: np.ndarray) -> str:
    """The mean of the classes' sensitivities with its 95 % interval, from theirs.

    Zou, Huang and Zhang, "A note on confidence interval estimation for a linear function of binomial proportions",
    Comput. Stat. Data Anal. 53:1080, 2009; with Wilson's intervals it has a width also when all or none are right.
    """
    present = actual > 0
    shares = hits[present] / actual[present]
    low, high = np.array([wilson(*pair) for pair in zip(hits[present].tolist(), actual[present].tolist(), strict=True)]).T
    mean, below, above = shares.mean(), np.hypot.reduce(shares - low) / len(shares), np.hypot.reduce(high - shares) / len(shares)
    return f"{mean:.3f} ({mean - below:.3f} to {mean + above:.3f})"


def _share(hits: float, total: float) -> str:
    if not total:
        return "no image"
    low, high = wilson(hits, total)
    return f"{hits / total:.3f} ({low:.3f} to {high:.3f}), {hits} of {total}"


def _area(row: Mapping[str, str]) -> str:
    area = float(row["auc"])
    low, high = auc_interval(area, int(row["images"]), int(row["others"]))
    return f"{area:.3f} ({low:.3f} to {high:.3f})"


def _rows(run: Path, name: str, number: int) -> list[dict[str, str]]:
    return [row for row in Table(run / "metrics" / f"{name}.csv", ()).read() if row.get("round") == str(number)]


def _row(run: Path, name: str, number: int) -> dict[str, str]:
    """A round's row of a table; empty when there is none."""
    return next(iter(_rows(run, name, number)), {})


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _text(text: str) -> str:
    """A name or value as Markdown shows it literally."""
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", " ".join(text.split()))
