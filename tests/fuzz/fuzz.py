"""Fuzz everything that reads a file: whatever the bytes, there is a result or the reader's own error, in little memory.

Not part of the tests, since it runs for as long as one likes::

    pip install atheris
    python tests/fuzz/fuzz.py idx -max_total_time=300

The readers are ``idx``, ``arrays`` (weights and checkpoints), ``signed`` (the same behind the checksum, which random
bytes would never pass: it is taken to be right), ``network`` (a run's folder whose weights describe a network at
random) and ``history``. All options are those of libFuzzer. What breaks a reader is written to ``crash-...`` in the
working directory; give its name as an argument to see it again.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["xpnet", "gzip", "csv"]):
    import numpy as np

    import xpnet
    from xpnet.data import IdxError, decode_idx, encode_idx
    from xpnet.runs import checkpoint, run
    from xpnet.runs.history import COLUMNS, History

FOLDER = Path(tempfile.mkdtemp(prefix="xpnet-fuzz-"))
NETWORK = xpnet.Network(
    [
        xpnet.RandomShift(1),
        xpnet.Conv2D(2, 3, padding="same"),
        xpnet.BatchNorm(),
        xpnet.LeakyReLU(),
        xpnet.MaxPool2D(2),
        xpnet.AveragePool2D(2),
        xpnet.Flatten(),
        xpnet.Dropout(),
        xpnet.Dense(3, init_weight=xpnet.Uniform()),
    ],
    (8, 8),
)


def idx(data: bytes) -> None:
    """Decode."""
    try:
        array = decode_idx(data)
    except IdxError:
        return
    assert array.nbytes <= 1100 * len(data)  # as far as gzip can pack


def arrays(data: bytes) -> None:
    """Read a file of arrays."""
    path = FOLDER / "arrays"
    path.write_bytes(data)
    try:
        found, _ = checkpoint.load_arrays(path)
    except checkpoint.CheckpointError:
        return
    assert sum(array.nbytes for array in found.values()) <= len(data)


def network(data: bytes) -> None:
    """Load a run whose description of the network is another in a few places, as the bytes say."""
    provider = atheris.FuzzedDataProvider(data)
    described = NETWORK.to_config()
    for _ in range(provider.ConsumeIntInRange(1, 3)):
        *above, last = provider.PickValueInList([path for path in paths_of(described) if path] or [("layers",)])
        place = described
        for key in above:
            place = place[key]
        place[last] = value(provider)
    config = {"recipe": "custom", "dataset": "digits", "dtype": "float32", "network": described}
    run.save_config(FOLDER, config)
    checkpoint.save_arrays(FOLDER / run.MODEL, WEIGHTS, {"network": described})
    try:
        loaded = xpnet.load(FOLDER)
    except checkpoint.CheckpointError:
        return
    assert loaded.size == NETWORK.size


def paths_of(tree: object, path: tuple = ()) -> list[tuple]:
    """Name every place in a tree of dictionaries and lists."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(found for key, inner in pairs for found in paths_of(inner, (*path, key)))]


def value(provider: atheris.FuzzedDataProvider) -> object:
    """Make something that JSON can hold."""
    kind = provider.ConsumeIntInRange(0, 7)
    if kind == 0:
        return provider.ConsumeInt(provider.ConsumeIntInRange(1, 16))
    if kind == 1:
        return provider.ConsumeFloat()
    if kind == 2:
        return provider.PickValueInList([None, True, False, 0, 1, -1, 2**31, 10**12, 2**64, 1e308])
    if kind == 3:
        return provider.PickValueInList([name for name in xpnet.__all__ if name[0].isupper()])
    if kind == 4:
        return provider.ConsumeUnicodeNoSurrogates(8)
    if kind == 5:
        return [value(provider) for _ in range(provider.ConsumeIntInRange(0, 3))]
    keys = ["class", "units", "rate", "bound", "size", provider.ConsumeUnicodeNoSurrogates(3)]
    return {provider.PickValueInList(keys): value(provider) for _ in range(provider.ConsumeIntInRange(0, 2))}


def history(data: bytes) -> None:
    """Read a history."""
    path = FOLDER / "history.csv"
    path.write_bytes(data)
    try:
        read = History.from_csv(path)
    except ValueError:
        return
    assert len(read) < len(data)


def seeds(reader: str) -> list[bytes]:
    """Return a few good files to begin with."""
    if reader == "idx":
        return [encode_idx(np.zeros((2, 3), dtype)) for dtype in ("u1", "i2", "f8")] + [
            (Path(xpnet.data.__file__).parent / "digits" / "test-labels-idx1-ubyte.gz").read_bytes()
        ]
    if reader == "network":
        return [bytes(64)]
    if reader == "history":
        return [f"{','.join(COLUMNS)}\n0,0.5,0.75,,,0.625,0.5,1.5\n1,0.1,1e-3,2.5,0.875,,,0.0\n".encode()]
    return [(FOLDER / name).read_bytes() for name in ("small", run.MODEL)]


START = NETWORK.init(np.random.default_rng(0)), NETWORK.init_state()
WEIGHTS = xpnet.TrainedNetwork(NETWORK, *START, xpnet.get_backend("numpy")).named_arrays()
READERS = {"idx": idx, "arrays": arrays, "signed": arrays, "network": network, "history": history}


def main() -> None:
    """Fuzz the reader that the first argument names."""
    if len(sys.argv) < 2 or sys.argv[1] not in READERS:
        sys.exit(f"{__doc__}\nname one of {', '.join(READERS)}")
    name = sys.argv.pop(1)
    if name in ("signed", "network"):
        checkpoint._checksum = lambda arrays, text: "right"
    checkpoint.save_arrays(FOLDER / "small", {"x": np.arange(3, dtype="f4"), "y": np.zeros((2, 1), "u1")}, {"epoch": 3})
    checkpoint.save_arrays(FOLDER / run.MODEL, WEIGHTS, {"network": NETWORK.to_config()})
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    for number, data in enumerate(seeds(name)):
        (corpus / str(number)).write_bytes(data)
    limits = ["-rss_limit_mb=1024", "-timeout=10", "-max_len=8192"]
    atheris.Setup([sys.argv[0], *limits, *sys.argv[1:], *([] if crashes(sys.argv) else [str(corpus)])], READERS[name])
    atheris.Fuzz()


def crashes(arguments: list[str]) -> bool:
    """Whether a file that broke a reader is to be tried again."""
    return any(Path(argument).is_file() for argument in arguments[1:])


if __name__ == "__main__":
    main()
