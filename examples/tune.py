"""Search the learning rate and the hidden size with Optuna on the validation set; then test once.

    pip install 'xpnet[tune]'
    python examples/tune.py --trials 30

The test set is used only once, after the choice is made. A test accuracy that helped to choose would be too
optimistic.
"""

import argparse
import tempfile
from pathlib import Path

import optuna
from matplotlib.figure import Figure

import xpnet
from xpnet import plots

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", default=None)
parser.add_argument("--trials", type=int, default=20)
parser.add_argument("--output", type=Path, default=None, help="where the picture goes")
parser.add_argument("--quick", action="store_true", help="the bundled digits and few trials")
options = parser.parse_args()
folder = options.output or Path(tempfile.mkdtemp(prefix="xpnet-tune-"))
folder.mkdir(parents=True, exist_ok=True)
data = xpnet.load_dataset("digits" if options.quick else None)
optuna.logging.set_verbosity(optuna.logging.WARNING)


def train(learning_rate, hidden_size):
    return xpnet.train(
        "mlp",
        dataset=data,
        backend=options.backend,
        learning_rate=learning_rate,
        hidden_sizes=(hidden_size,),
        epochs=3 if options.quick else 12,
        validation_fraction=0.2,
        progress=False,
    )


def objective(trial):
    learning_rate = trial.suggest_float("learning_rate", 1e-4, 3e-2, log=True)
    run = train(learning_rate, trial.suggest_int("hidden_size", 16, 256, log=True))
    return max(run.history.column("val_accuracy"))


study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
study.optimize(objective, n_trials=4 if options.quick else options.trials)
print("best on the validation set:", study.best_params, f"{study.best_value:.4f}")

figure = Figure(figsize=(7, 4.5), layout="constrained")
axis = figure.subplots()
shown = axis.scatter(
    [trial.params["learning_rate"] for trial in study.trials],
    [trial.params["hidden_size"] for trial in study.trials],
    c=[trial.value for trial in study.trials],
    s=70,
    cmap="viridis",
)
best = study.best_params
axis.scatter(best["learning_rate"], best["hidden_size"], s=220, facecolors="none", edgecolors="black", label="best")
axis.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="hidden units", title=f"mlp on {data.name}")
axis.legend()
figure.colorbar(shown, label="validation accuracy")
plots.save(figure, folder / "tune.png")
print("picture:", folder / "tune.png")

print(f"test accuracy of the choice: {train(**best).evaluation.accuracy:.4f}")
