"""The run configuration: one table of keys, read by server, clients and control centre alike.

It lives in `pyproject.toml` under `[tool.flwr.app.config]`. The command line wins over the environment, the
environment over the file. Flower passes any value on; refusing a wrong one, with its name and range, is done here.
"""
from __future__ import annotations

import difflib
import math
import shlex
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poweranger.errors import UserError
from poweranger.privacy.rules import check_privacy

Value = bool | int | float | str


@dataclass(frozen=True)
class Key:
    """One key: its type is its default's type.

    Attributes
    ----------
    low, high : bounds of a number, both inclusive; None for no bound.
    choices : the allowed values, where they are few.
    environment : the variable that sets it.
    reader : who uses the value: `server`, `clients` (sent to them with every message), or `site` (each client
        process reads it for itself at start).
    """

    name: str
    default: Value
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Value, ...] = ()
    environment: str = ""
    reader: str = "server"

    @property
    def kind(self) -> str:
        """The type's name as users write it in TOML."""
        return {bool: "boolean", int: "integer", float: "number", str: "text"}[type(self.default)]

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        if self.choices:
            return "one of " + ", ".join(_toml(choice) for choice in self.choices)
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, str):
            return "text"
        article = "an integer" if isinstance(self.default, int) else "a number"
        if self.low is not None and self.high is not None:
            return f"{article} from {_number(self.low)} to {_number(self.high)}"
        return f"{article} of at least {_number(self.low)}" if self.low is not None else article

    def check(self, value: object) -> Value:
        """`value` in this key's type.

        Raises
        ------
        UserError
            When the type or the range is wrong; names key, value and what is allowed.
        """
        wanted = type(self.default)
        if wanted is float and type(value) is int and abs(value) <= sys.float_info.max:
            value = float(value)
        fits = type(value) is wanted
        if fits and isinstance(value, float):
            fits = math.isfinite(value)
        if fits and isinstance(value, (int, float)) and not isinstance(value, bool):
            fits = (self.low is None or value >= self.low) and (self.high is None or value <= self.high)
        if fits and self.choices:
            fits = value in self.choices
        if fits and isinstance(value, str):
            fits = value.isprintable()
        if not fits:
            raise UserError(f"{self.name} = {_toml(value)} is not allowed: it takes {self.allowed}")
        return value  # type: ignore[return-value]

    def parse(self, text: str) -> Value:
        """Read a value written on a command line or in an environment variable; raises as `check` does."""
        text = text.strip()
        if isinstance(self.default, str):
            return self.check(text)
        if isinstance(self.default, bool):
            known = {"true": True, "1": True, "false": False, "0": False}
            return self.check(known.get(text.lower(), text))
        try:
            return self.check(int(text))
        except ValueError:
            pass
        try:
            return self.check(float(text))
        except ValueError:
            return self.check(text)


KEYS: tuple[Key, ...] = (
    Key("num-server-rounds", 3, "Rounds of training", 1, 100_000, environment="ROUNDS"),
    Key("fraction-fit", 0.3, "Share of the connected clients that train in a round", 0, 1, environment="FRACTION_FIT"),
    Key("fraction-evaluate", 0.3, "Share of the connected clients that evaluate after a round; 0 evaluates nowhere", 0, 1, environment="FRACTION_EVAL"),
    Key("min-fit-clients", 1, "Train with at least this many clients", 1, 10_000, environment="MIN_FIT_CLIENTS"),
    Key("min-evaluate-clients", 1, "Evaluate with at least this many clients", 1, 10_000, environment="MIN_EVAL_CLIENTS"),
    Key("min-available-clients", 1, "Start a round only when this many clients are connected", 1, 10_000, environment="MIN_AVAILABLE_CLIENTS"),
    Key("start-clients", 0, "Wait for this many clients before the first round; 0 waits for min-available-clients", 0, 10_000),
    Key("local-epochs", 1, "Passes over its own images that a client makes in a round", 1, 1000, reader="clients"),
    Key("batch-size", 16, "Images a training step; less needs less memory", 1, 4096, reader="clients"),
    Key("image-size", 96, "Side of the square, in pixels, that every image is brought to", 16, 1024, environment="IMAGE_SIZE", reader="clients"),
    Key("wanted-sensitivity", 0.95, "Share of a class that shall be found: class_metrics.csv has the threshold for it and the specificity there", 0.01, 1),
    Key("verbose", 0, "How much is logged: 0 a line a round, 1 also each client's answer, 2 also Flower's own log", 0, 2),
    Key("learning-rate", 0.05, "Peak learning rate of the clients' SGD", 0, 10, reader="clients"),
    Key("lr-schedule", "cosine", "Learning rate over the rounds: down to 2 % along a cosine, always the same, or a tenth of it after half and again after three quarters of the rounds", choices=("cosine", "constant", "step")),
    Key("warmup-rounds", 1, "First rounds, in which the learning rate climbs to its peak", 0, 1000),
    Key("momentum", 0.9, "Nesterov momentum of the clients' SGD", 0, 0.999, reader="clients"),
    Key("strategy", "fedavg", "How the server makes one model of the clients'", choices=("fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedmedian", "krum", "trimmed-mean")),
    Key("proximal-mu", 0.01, "With fedprox: how strongly a client is held near the global model", 0, 100, reader="clients"),
    Key("server-learning-rate", 0.0, "With fedavgm, fedadam and fedyogi: the server's step; 0 takes the strategy's own (docs/training.md)", 0, 100),
    Key("server-momentum", 0.9, "With fedavgm, fedadam and fedyogi: the server's momentum", 0, 0.999),
    Key("num-malicious", 1, "With krum: how many clients may send anything at all", 0, 1000),
    Key("trim", 0.2, "With trimmed-mean: share of the clients left out at either end, for every single weight", 0.01, 0.49),
    Key("best-metric", "balanced_accuracy", "The figure in eval_metrics.csv that tells which round's model is the best"),
    Key("patience", 0, "Rounds without a better best-metric after which the run ends early; 0 never does", 0, 100_000),
    Key("dropout", 0.2, "Dropout before the last layer", 0, 0.9, reader="clients"),
    Key("augment", True, "Flip and shift training images at random", reader="clients"),
    Key("prior-shift", True, "Correct in training for a site's own class shares (logit adjustment)", reader="clients"),
    Key("standardise", True, "Standardise by the federation's mean and deviation instead of scaling to 0..1"),
    Key("channels", 0, "Image channels: 1 grey, 3 RGB, 0 RGB when any site has colour images", choices=(0, 1, 3)),
    Key("classes", "", "Class names in order, separated by commas; empty takes the union of the sites' classes"),
    Key("validation-fraction", 0.2, "Share of a folder's images kept for evaluation", 0.01, 0.9, reader="clients"),
    Key("seed", 0, "Seed of the first model, of sampling, of splits and of the order of images", 0, 2**31 - 1, reader="clients"),
    Key("round-deadline", 3600.0, "Seconds after which a phase of a round ends with the answers that came, and before the first the wait for sites that still read their images", 0.1, 1e7),
    Key("round-grace", 2.0, "Once half of the clients have answered, the others get this many times the slowest one's seconds (at least 10 s) more; 0 waits until the deadline", 0, 1000),
    Key("client-wait", 0.0, "Seconds to wait for min-available-clients before giving up with exit code 3; 0 waits for ever", 0, 1e7),
    Key("tensorboard", False, "Write the figures as TensorBoard event files, too"),
    Key("max-failed-rounds", 3, "Rounds in a row without one usable answer after which the run fails", 1, 100_000),
    Key("min-site-examples", 0, "Sites with fewer training images are refused, by themselves and by the server; a site's own MIN_SITE_EXAMPLES may be higher", 0, 10**9, environment="MIN_SITE_EXAMPLES", reader="clients"),
    Key("dp", "off", "Differential privacy for each client: noise on the sum of the updates (central: the server is trusted), on each update before it is sent (local), or none (docs/privacy.md)", choices=("off", "central", "local"), reader="clients"),
    Key("dp-noise-multiplier", 1.0, "With dp: standard deviation of the noise, as a multiple of dp-clip", 0, 1000, reader="clients"),
    Key("dp-clip", 1.0, "With dp: L2 norm to which a client's update is clipped", 1e-6, 1e6, reader="clients"),
    Key("dp-delta", 1e-5, "With dp: the delta at which epsilon is given; has to be below 1/clients", 1e-12, 0.1),
    Key("dp-target-epsilon", 0.0, "With dp: the run ends before epsilon would exceed this; 0 sets no end", 0, 1e6),
    Key("secure-aggregation", False, "The server sees only sums over the clients, of weights, counts and figures alike (docs/privacy.md)", reader="clients"),
    Key("secagg-threshold", 0.6, "With secure-aggregation: share of a round's clients that has to stay to the end for the sum to be opened", 0.51, 1),
    Key("allow-mixed-data", False, "Let clients with synthetic images train together with clients that have real ones"),
    Key("strict-data", False, "Make an unusable DATA_DIR an error (exit code 2) instead of falling back to synthetic images", environment="STRICT_DATA", reader="site"),
    Key("synthetic-examples", 150, "Synthetic images a client makes when it has no data", 10, 100_000, reader="clients"),
    Key("dirichlet-alpha", 0.0, "In simulation: skew of the classes over the virtual clients (Dirichlet; small is skewed); 0 deals them out evenly", 0, 1000, reader="clients"),
    Key("threads", 1, "TensorFlow threads of a client", 1, 256, environment="THREADS", reader="site"),
    Key("cache-mb", 256, "Decoded images are kept in memory up to this size, else in a private memory-mapped file", 0, 1_000_000, environment="CACHE_MB", reader="site"),
    Key("gpu-memory-mb", 0, "Cap of a client's GPU memory; 0 lets it grow as needed", 0, 1_000_000, environment="GPU_MEMORY_MB", reader="site"),
)
BY_NAME = {key.name: key for key in KEYS}

SETTINGS = {  # environment variables that are no run configuration
    "FLOWER_HOST": "Address the server listens on, and clients connect to",
    "FLOWER_PORT": "The server's port (8081)",
    "DATA_DIR": "A client's folder of class folders, or its .npz file",
}


def find_key(name: str) -> Key:
    """The key called `name`; an unknown one is refused with the nearest known name."""
    if name in BY_NAME:
        return BY_NAME[name]
    near = difflib.get_close_matches(name.replace("_", "-").lower(), BY_NAME, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "the README lists all keys"
    raise UserError(f"{name} is no key of the run configuration: {hint}")


def check_all(values: Mapping[str, object], where: str = "") -> dict[str, Value]:
    """Check names, types and ranges of `values`; `where` (a file's name) precedes the sentence of an error."""
    try:
        checked = {name: find_key(name).check(value) for name, value in values.items()}
        return checked
    except UserError as error:
        raise UserError(f"{where}: {error}" if where else str(error)) from None


def parse_overrides(text: str, option: str = "--run-config") -> dict[str, Value]:
    """Read `"k=v k=v"` as `flwr run --run-config` takes it; texts need no quotes. `option` is what the user gave it to."""
    values: dict[str, Value] = {}
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"{option} {text!r} cannot be read ({error}): write \"key=value key=value\"") from None
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"{option}: {word!r} is no key=value pair")
        values[name] = find_key(name).parse(value)
    return values


def from_environment(environment: Mapping[str, str]) -> dict[str, Value]:
    """The values that environment variables set; an empty variable sets nothing."""
    values: dict[str, Value] = {}
    for key in KEYS:
        if key.environment and (text := environment.get(key.environment, "").strip()):
            try:
                values[key.name] = key.parse(text)
            except UserError as error:
                raise UserError(f"environment variable {key.environment}: {error}") from None
    return values


def from_pyproject(path: Path) -> dict[str, Value]:
    """The checked `[tool.flwr.app.config]` of a `pyproject.toml`; empty when file or table is absent."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise UserError(f"{path} cannot be read: {error}") from None
    table: object = document
    for name in ("tool", "flwr", "app", "config"):
        table = table.get(name, {}) if isinstance(table, dict) else {}
    if not isinstance(table, dict):
        raise UserError(f"{path}: [tool.flwr.app.config] is no table")
    return check_all(table, f"{path} [tool.flwr.app.config]")


def resolve(*layers: Mapping[str, object]) -> dict[str, Value]:
    """Every key's value: the defaults, then each layer over the one before it.

    Raises
    ------
    UserError
        When a value is wrong or two values contradict each other.
    """
    values: dict[str, Value] = {key.name: key.default for key in KEYS}
    for layer in layers:
        values.update(check_all(layer))
    if values["fraction-fit"] == 0:
        raise UserError("fraction-fit = 0 would train nobody: give a share above 0, up to 1")
    if values["patience"] and values["fraction-evaluate"] == 0:
        raise UserError(f"patience = {values['patience']} needs evaluations: give fraction-evaluate a share above 0")
    needed = answers_needed(values)
    if values["min-fit-clients"] < needed:  # type: ignore[operator]
        raise UserError(f"strategy = {_toml(values['strategy'])} needs the answers of {needed} clients in every round: set min-fit-clients to {needed} or more")
    check_privacy(values)
    names = class_names(values)
    if len(names) == 1 or len(set(names)) != len(names):
        raise UserError(f"classes = {_toml(values['classes'])} needs two or more different names")
    return values


def answers_needed(values: Mapping[str, Any]) -> int:
    """How many clients' weights the strategy needs in a round to do what it is there for.

    Krum stands up to f of 2f + 3 clients (Blanchard et al., 2017); of fewer than three a median is a mean; a trimmed
    mean that leaves nobody out is a mean.
    """
    if values["strategy"] == "krum":
        return 2 * int(values["num-malicious"]) + 3
    if values["strategy"] == "trimmed-mean":
        return next(count for count in range(3, 102) if int(values["trim"] * count) > 0)
    return 3 if values["strategy"] == "fedmedian" else 1


def class_names(values: Mapping[str, object]) -> list[str]:
    """The names in `classes`; empty when the sites decide."""
    return [name.strip() for name in str(values["classes"]).split(",") if name.strip()]


def markdown_table() -> str:
    """The table in the README; `python -m poweranger.run_config` prints it."""
    rows = ["| key | default | allowed | environment | read by | what it does |", "| --- | --- | --- | --- | --- | --- |"]
    for key in KEYS:
        variable = f"`{key.environment}`" if key.environment else ""
        rows.append(f"| `{key.name}` | `{_toml(key.default)}` | {key.allowed} | {variable} | {key.reader} | {key.help} |")
    return "\n".join(rows)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"' if value.isprintable() else ascii(value)  # it may be another machine's, and ends on a terminal
    return str(value)


if __name__ == "__main__":
    print(markdown_table())
