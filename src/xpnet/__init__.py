"""xpnet: a neural network written once against the Python Array API standard, for NumPy, CuPy, torch and JAX.

>>> import xpnet
>>> run = xpnet.train("mlp", dataset="digits", epochs=5, backend="numpy", progress=False)
>>> run.network.predict(run.data.test_images[:4]).shape
(4,)
"""

from xpnet import signals as signals  # first, so that Ctrl-C works during the other imports
from xpnet._version import __version__ as __version__
from xpnet.backends import Backend, BackendError, BackendInfo, get_backend, list_backends
from xpnet.data import DataError, Dataset, DataWarning, IdxError, load_dataset
from xpnet.nn.activations import GELU, LeakyReLU, ReLU, Sigmoid, Tanh
from xpnet.nn.augmentation import RandomShift
from xpnet.nn.convolution import Conv2D
from xpnet.nn.gradcheck import check_gradients
from xpnet.nn.images import Flatten
from xpnet.nn.initializers import Constant, GlorotUniform, HeUniform, Initializer, Uniform
from xpnet.nn.layers import Context, Dense, Dropout, Layer, ShapeError, Variable
from xpnet.nn.losses import Loss, SoftmaxCrossEntropy, SquaredError
from xpnet.nn.network import Network
from xpnet.nn.normalization import BatchNorm
from xpnet.nn.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from xpnet.nn.pooling import AveragePool2D, MaxPool2D
from xpnet.nn.schedules import Cosine, Schedule, StepDecay, WarmUp
from xpnet.nn.trained import TrainedNetwork
from xpnet.parts import Part
from xpnet.runs.checkpoint import BusyError, CheckpointError, ResumeError
from xpnet.runs.evaluation import Evaluation, evaluate
from xpnet.runs.history import History, Record
from xpnet.runs.opened import load_run
from xpnet.runs.run import Run, load
from xpnet.training.callbacks import StopTraining
from xpnet.training.fit import DivergedError, fit
from xpnet.training.train import train

__all__ = [
    "GELU",
    "SGD",
    "Adam",
    "AdamW",
    "AveragePool2D",
    "Backend",
    "BackendError",
    "BackendInfo",
    "BatchNorm",
    "BusyError",
    "CheckpointError",
    "Constant",
    "Context",
    "Conv2D",
    "Cosine",
    "DataError",
    "DataWarning",
    "Dataset",
    "Dense",
    "DivergedError",
    "Dropout",
    "Evaluation",
    "Flatten",
    "GlorotUniform",
    "HeUniform",
    "History",
    "IdxError",
    "Initializer",
    "Layer",
    "LeakyReLU",
    "Loss",
    "MaxPool2D",
    "Network",
    "Optimizer",
    "Part",
    "RMSprop",
    "RandomShift",
    "ReLU",
    "Record",
    "ResumeError",
    "Run",
    "Schedule",
    "ShapeError",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "SquaredError",
    "StepDecay",
    "StopTraining",
    "Tanh",
    "TrainedNetwork",
    "Uniform",
    "Variable",
    "WarmUp",
    "check_gradients",
    "evaluate",
    "fit",
    "get_backend",
    "list_backends",
    "load",
    "load_dataset",
    "load_run",
    "train",
]
