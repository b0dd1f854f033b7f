"""A training loop as a CUDA graph, which records a step once and replays it for every batch; for CuPy and PyTorch.

On a GPU a step of a small network is dozens of kernels of a few microseconds each, and Python needs longer to launch
a kernel than the GPU to run it. A graph is the list of a step's kernels with the addresses that they read and write;
the host launches the whole list in one call.

The addresses are fixed, so the arrays must not move:

* The arguments of a recorded function lie in the recording's memory. Each call copies its arguments there, except
  arrays that were the same in every call, such as a run's images.
* The carry between steps lies there too: the end of a step overwrites it.
* A counter on the device selects each step's slice of the batches, so the host copies nothing within an epoch.

The first call of a function runs as usual, because it compiles and loads kernels, which cannot happen while recording.
The second call records. If that fails, the function runs as usual from then on, after one warning with the reason.
"""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from array_api_compat import device

from .base import Array, BackendError, Namespace, Step

SWITCH = "XPNET_CUDA_GRAPHS"
"""The environment variable that turns graphs off if it is 0."""

Steps = tuple[Any, Array | None]
"""The result of a scan: the last carry, and the outputs."""


class Recorder(Protocol):
    """The recording interface of a library. Each recording has its own recorder, with its own memory."""

    def memory(self) -> AbstractContextManager[Any]:
        """Return the context that allocates arrays in the recording's memory, on its own stream."""

    def begin(self) -> None:
        """Record from here on, without running anything."""

    def end(self) -> Callable[[], Any]:
        """Return a function that launches the kernels recorded since `begin` on the current stream."""

    def address(self, array: Array) -> int:
        """Return the address of an array's first element."""


class Loops(Protocol):
    """An object that runs the loops of a compiled function during a call."""

    def scan(self, step: Step, carry: Any, xs: dict[str, Array]) -> Steps:
        """Run a loop; see `Backend.scan`."""


_loops: ContextVar[Loops | None] = ContextVar("_loops", default=None)


def wanted() -> bool:
    """Return whether the user wants graphs, by the environment variable `SWITCH`."""
    value = os.environ.get(SWITCH) or "1"
    if value not in ("0", "1"):
        raise BackendError(f"{SWITCH}={value!r}: must be 1, or 0 to run without CUDA graphs")
    return value == "1"


def scan(step: Step, carry: Any, xs: dict[str, Array], xp: Namespace) -> Steps:
    """Run a loop, through the compiled function that is being called if there is one; see `Backend.scan`."""
    loops = _loops.get()
    return unrolled(step, carry, xs, xp) if loops is None else loops.scan(step, carry, xs)


def unrolled(step: Step, carry: Any, xs: dict[str, Array], xp: Namespace) -> Steps:
    """Run a loop step by step.

    Outputs are written into one array, because stacking many arrays would copy their addresses from the host.
    """
    outputs, length = None, length_of(xs)
    for i in range(length):
        carry, output = step(carry, {name: array[i, ...] for name, array in xs.items()})
        if output is not None:
            outputs = room_for(length, output, xp) if outputs is None else outputs
            outputs[i, ...] = output
    return carry, outputs


class Compiled:
    """A function that is recorded in its second call and replayed from then on.

    Parameters
    ----------
    function : callable
        A pure function of nested tuples, lists and dictionaries of arrays. It does the same whatever their values.
    recorder : callable
        Creates a `Recorder`.
    xp : module
        The array namespace.
    """

    def __init__(self, function: Callable[..., Any], recorder: Callable[[], Recorder], xp: Namespace) -> None:
        self.function, self.recorder, self.xp = function, recorder, xp
        self.known: dict[str, Known] = {}

    def __call__(self, *args: Any) -> Any:
        """Call the function, or replay it."""
        given = leaves(args)
        form = repr(rebuilt(args, iter([kind(leaf) for leaf in given])))
        if form not in self.known:
            known = self.known[form] = Known(given, self.xp)
            with loops_of(known):
                return self.function(*args)
        known = self.known[form]
        if known.worth_it and (known.recording is None or not known.recording.takes(given)):
            self._record(known, args, given)
        return known.recording.replay(given) if known.recording else self.function(*args)

    def _record(self, known: Known, args: Any, given: list[Any]) -> None:
        known.recording = None  # frees its memory
        known.compare(given)
        try:
            known.recording = Recording(self.recorder(), self.function, args, known.constant, self.xp)
        except Exception as error:  # a library, or a user's layer, may raise anything
            known.worth_it = False
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            message = f"training goes on without CUDA graphs, in single kernels ({reason}); {SWITCH}=0 does so silently"
            warnings.warn(message, RuntimeWarning, stacklevel=3)


class Known:
    """Everything known about calls with arguments of one form; it runs the loops of the first call."""

    def __init__(self, given: list[Any], xp: Namespace) -> None:
        self.xp, self.worth_it = xp, False
        self.recording: Recording | None = None
        self.seen = [weakref.ref(leaf) if is_array(leaf) else None for leaf in given]
        self.constant = [True] * len(given)

    def compare(self, given: list[Any]) -> None:
        """Note which arguments were the same arrays in every call so far."""
        now = [seen is None or seen() is leaf for seen, leaf in zip(self.seen, given, strict=True)]
        self.constant = [old and new for old, new in zip(self.constant, now, strict=True)]

    def scan(self, step: Step, carry: Any, xs: dict[str, Array]) -> Steps:
        """Run a loop as usual, and note that it is worth recording; code outside loops launches each kernel once."""
        self.worth_it = self.worth_it or length_of(xs) > 1
        return unrolled(step, carry, xs, self.xp)


class Recording:
    """A function as a list of graphs, each with its number of launches, and the memory that they use.

    Parameters
    ----------
    recorder : Recorder
        What records graphs on this library.
    function : callable
        The function to record.
    args : tuple
        The function's arguments, as nested arrays.
    constant : list of bool
        For each array in them, whether it never moves; the others are copied.
    xp : module
        The array namespace.
    """

    def __init__(
        self, recorder: Recorder, function: Callable[..., Any], args: Any, constant: list[bool], xp: Namespace
    ) -> None:
        self.recorder, self.constant, self.xp = recorder, constant, xp
        self.graphs: list[tuple[Callable[[], Any], int]] = []
        self.live = self.within = False
        # The outputs that the loops collect, in order. They are allocated before the recording: within a step they
        # would get memory that a temporary array had before, and has again in the next step.
        self.rooms: list[Array | None] = []
        self.loops = 0
        with recorder.memory(), loops_of(self):
            pairs = zip(leaves(args), constant, strict=True)
            self.inputs = [leaf if stays else self.copy(leaf) for leaf, stays in pairs]
            mine = rebuilt(args, iter(self.inputs))
            function(*mine)  # one step of each loop, in which the libraries load their kernels
            self.live, self.loops = True, 0
            recorder.begin()
            try:
                self.outputs = function(*mine)
            finally:
                rest = recorder.end()
            self.graphs.append((rest, 1))

    def copy(self, leaf: Any) -> Any:
        """Copy an array; return anything else unchanged."""
        return self.xp.asarray(leaf, copy=True) if is_array(leaf) else leaf

    def takes(self, given: list[Any]) -> bool:
        """Whether the constant arrays of the recording are the ones given."""
        triples = zip(self.inputs, given, self.constant, strict=True)
        return all(mine is leaf for mine, leaf, stays in triples if stays and is_array(leaf))

    def replay(self, given: list[Any]) -> Any:
        """Call the function with arrays of the same form."""
        for mine, leaf in zip(self.inputs, given, strict=True):
            if is_array(leaf) and mine is not leaf:
                mine[...] = leaf
        for launch, times in self.graphs:
            for _ in range(times):
                launch()
        return rebuilt(self.outputs, iter([self.copy(leaf) for leaf in leaves(self.outputs)]))

    def scan(self, step: Step, carry: Any, xs: dict[str, Array]) -> Steps:
        """Record a step of a loop. Inner loops are unrolled, and so is a loop of a single step."""
        length = length_of(xs)
        if self.within or length < 2:
            return unrolled(step, carry, xs, self.xp)
        number, self.loops = self.loops, self.loops + 1
        held = rebuilt(carry, iter([self.copy(leaf) for leaf in leaves(carry)]))
        counter = self.xp.zeros((1,), dtype=self.xp.int64, device=device(next(iter(xs.values()))))
        self.cut(1)
        self.within = True
        try:
            new, output = step(held, {name: self.xp.take(array, counter, axis=0)[0, ...] for name, array in xs.items()})
        finally:
            self.within = False
        if not self.live:
            self.rooms.append(None if output is None else room_for(length, output, self.xp))
        outputs = self.rooms[number]
        if outputs is not None and output is not None:
            outputs[counter] = output[None, ...]
        self.overwrite(leaves(held), leaves(new))
        counter += 1
        self.cut(length)
        return held, outputs

    def cut(self, times: int) -> None:
        """End a graph, which will be launched ``times`` times, and begin the next."""
        if self.live:
            self.graphs.append((self.recorder.end(), times))
            self.recorder.begin()

    def overwrite(self, old: list[Any], new: list[Any]) -> None:
        """Copy the carry that a step returned into the carry of the next step."""
        pairs = [(mine, leaf) for mine, leaf in zip(old, new, strict=True) if mine is not leaf]
        for mine, leaf in pairs:
            if kind(mine) != kind(leaf):
                raise TypeError(f"a step makes {kind(leaf)} of {kind(mine)}, but all steps have to return the same")
        spans = [(self.recorder.address(mine), mine.nbytes) for mine in old if is_array(mine)]

        def lies_there(leaf: Array) -> bool:
            return any(0 <= self.recorder.address(leaf) - start < size for start, size in spans)

        # A step may return an array of the old carry in another place. Copy it before anything is overwritten.
        pairs = [(mine, self.copy(leaf) if lies_there(leaf) else leaf) for mine, leaf in pairs if is_array(mine)]
        for mine, leaf in pairs:
            mine[...] = leaf


@contextmanager
def loops_of(loops: Loops) -> Iterator[None]:
    """Let ``loops`` run the loops that `scan` is called for."""
    token = _loops.set(loops)
    try:
        yield
    finally:
        _loops.reset(token)


def leaves(tree: Any) -> list[Any]:
    """Return the leaves of nested tuples, lists and dictionaries, in order."""
    if isinstance(tree, tuple | list):
        return [leaf for part in tree for leaf in leaves(part)]
    return [leaf for part in tree.values() for leaf in leaves(part)] if isinstance(tree, dict) else [tree]


def rebuilt(tree: Any, replacements: Iterator[Any]) -> Any:
    """Return the same nested structure with other leaves."""
    if isinstance(tree, dict):
        return {name: rebuilt(part, replacements) for name, part in tree.items()}
    if not isinstance(tree, tuple | list):
        return next(replacements)
    parts = [rebuilt(part, replacements) for part in tree]
    return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)


def is_array(leaf: Any) -> bool:
    """Whether a leaf is an array, as opposed to a Python number or None."""
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def kind(leaf: Any) -> Any:
    """Return the part that must be the same in every call: an array's dtype and shape, or any other leaf itself."""
    return (str(leaf.dtype), tuple(leaf.shape)) if is_array(leaf) else leaf


def length_of(xs: dict[str, Array]) -> int:
    """Return the common length of all arrays."""
    (length,) = {array.shape[0] for array in xs.values()}
    return int(length)


def room_for(length: int, output: Array, xp: Namespace) -> Array:
    """Allocate an array for ``length`` outputs of a step."""
    return xp.empty((length, *output.shape), dtype=output.dtype, device=device(output))
