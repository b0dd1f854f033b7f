"""Optimizers and schedules, against torch.optim."""

import re

import numpy as np
import pytest

from xpnet import SGD, Adam, AdamW, Cosine, Optimizer, RMSprop, Schedule, StepDecay, WarmUp

STEPS = 10


def run(optimizer, gradients, theta, backend, schedule=None):
    """Take a step for each gradient, like the training loop."""
    xp = backend.xp
    t = np.arange(len(gradients))
    rates = optimizer.learning_rate * (schedule or Schedule()).factor(t / 5.0)
    scalars = optimizer.scalars(t + 1, rates)
    theta = backend.asarray(theta)
    state = optimizer.init(theta, xp=xp)
    for i, gradient in enumerate(gradients):
        now = {name: backend.asarray(values[i]) for name, values in scalars.items()}
        theta, state = optimizer.update(theta, state, backend.asarray(gradient), now, xp=xp)
    return backend.to_numpy(theta)


def cases(torch):
    o = torch.optim
    return {
        SGD(0.1): lambda p: o.SGD(p, 0.1),
        SGD(0.1, weight_decay=0.01): lambda p: o.SGD(p, 0.1, weight_decay=0.01),
        SGD(0.1, momentum=0.9): lambda p: o.SGD(p, 0.1, momentum=0.9),
        SGD(0.1, 0.8, nesterov=True, weight_decay=0.02): lambda p: o.SGD(
            p, 0.1, momentum=0.8, nesterov=True, weight_decay=0.02
        ),
        RMSprop(0.02, weight_decay=0.01): lambda p: o.RMSprop(p, 0.02, weight_decay=0.01),
        Adam(0.03): lambda p: o.Adam(p, 0.03),
        Adam(0.03, 0.5, 0.9, epsilon=1e-3, weight_decay=0.1): lambda p: o.Adam(
            p, 0.03, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1
        ),
        AdamW(0.03, weight_decay=0.2): lambda p: o.AdamW(p, 0.03, weight_decay=0.2),
    }


def test_ten_steps_equal_torch(backend, torch):
    rng = np.random.default_rng(0)
    theta, gradients = rng.normal(size=6), rng.normal(size=(STEPS, 6))
    for ours, theirs in cases(torch).items():
        parameter = torch.tensor(theta, requires_grad=True)
        optimizer = theirs([parameter])
        with torch.enable_grad():
            for gradient in gradients:
                parameter.grad = torch.tensor(gradient)
                optimizer.step()
        result = run(ours, gradients, theta, backend)
        np.testing.assert_allclose(result, parameter.detach().numpy(), rtol=1e-10, err_msg=str(ours))


def test_schedules_equal_torch(torch):
    s = torch.optim.lr_scheduler
    per_epoch = 5  # steps
    cases = {
        Schedule(): lambda o: s.ConstantLR(o, factor=1.0),
        StepDecay(2, 0.3): lambda o: s.StepLR(o, 2 * per_epoch, 0.3),
        Cosine(4): lambda o: s.CosineAnnealingLR(o, 4 * per_epoch),
        Cosine(4, floor=0.25): lambda o: s.CosineAnnealingLR(o, 4 * per_epoch, eta_min=0.025),
        WarmUp(2.0, 0.2): lambda o: s.LinearLR(o, 0.2, total_iters=2 * per_epoch),
        Cosine(4, warm_up=1.0, start=0.5): lambda o: s.SequentialLR(
            o,
            [s.LinearLR(o, 0.5, total_iters=per_epoch), s.CosineAnnealingLR(o, 3 * per_epoch)],
            milestones=[per_epoch],
        ),
    }
    times = np.arange(4 * per_epoch) / per_epoch
    for ours, theirs in cases.items():
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
        scheduler = theirs(optimizer)
        expected = []
        for _ in times:
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if isinstance(scheduler, s.SequentialLR):
                import warnings

                with warnings.catch_warnings():  # torch warns of its own call
                    warnings.simplefilter("ignore")
                    scheduler.step()
            else:
                scheduler.step()
        np.testing.assert_allclose(0.1 * ours.factor(times), expected, rtol=1e-10, atol=1e-15, err_msg=str(ours))


def test_first_steps_by_hand():
    """Without torch: the first step of Adam is the sign of the gradient, SGD's the gradient."""
    import xpnet

    numpy = xpnet.get_backend("numpy")
    gradient = np.asarray([[1e-3, -5.0]])
    np.testing.assert_allclose(run(Adam(0.1), gradient, np.zeros(2), numpy), [-0.1, 0.1], rtol=1e-4)
    np.testing.assert_allclose(run(SGD(0.1), gradient, np.zeros(2), numpy), [-1e-4, 0.5])
    two = np.asarray([[1.0], [1.0]])
    np.testing.assert_allclose(run(SGD(1.0, momentum=0.5), two, np.zeros(1), numpy), [-2.5])
    np.testing.assert_allclose(run(SGD(1.0), two, np.zeros(1), numpy, WarmUp(1.0, 0.5)), [-1.1])


def test_updates_leave_the_old_arrays_as_they_were(backend):
    for optimizer in (SGD(0.1, momentum=0.9), RMSprop(), Adam(), AdamW()):
        theta = backend.asarray(np.ones(3))
        state = optimizer.init(theta, xp=backend.xp)
        scalars = {k: backend.asarray(v[0]) for k, v in optimizer.scalars(np.asarray([1]), np.ones(1)).items()}
        optimizer.update(theta, state, backend.asarray(np.ones(3)), scalars, xp=backend.xp)
        assert backend.to_numpy(theta).tolist() == [1.0, 1.0, 1.0]
        assert all(backend.to_numpy(value).tolist() == [0.0, 0.0, 0.0] for value in state.values())


def test_defaults_are_those_of_torch(torch):
    parameter = [torch.zeros(1, requires_grad=True)]
    theirs = torch.optim.Adam(parameter).defaults
    ours = Adam()
    assert (ours.learning_rate, (ours.beta1, ours.beta2)) == (theirs["lr"], theirs["betas"])
    assert (ours.epsilon, ours.weight_decay) == (theirs["eps"], theirs["weight_decay"])
    assert AdamW().weight_decay == torch.optim.AdamW(parameter).defaults["weight_decay"]
    theirs, ours = torch.optim.RMSprop(parameter).defaults, RMSprop()
    assert (ours.learning_rate, ours.decay) == (theirs["lr"], theirs["alpha"])
    assert (ours.epsilon, ours.weight_decay) == (theirs["eps"], theirs["weight_decay"])


def test_defaults_of_schedules_are_the_documented_ones():
    assert StepDecay() == StepDecay(every=5, gamma=0.5)
    assert WarmUp() == WarmUp(epochs=1.0, start=0.1)
    assert Cosine(7) == Cosine(7, floor=0.0, warm_up=0.0, start=0.1)


def test_what_a_schedule_covers():
    """Beyond its end a cosine stays at its floor; the others never end."""
    assert Cosine(7).length == 7
    assert {part.length for part in (Schedule(), StepDecay(), WarmUp())} == {float("inf")}
    np.testing.assert_allclose(Cosine(4, floor=0.25).factor(np.asarray([4.0, 5.0, 8.0])), 0.25)


def test_only_what_an_optimizer_needs_is_kept():
    theta = np.ones(3)
    kept = {optimizer: set(optimizer.init(theta, xp=np)) for optimizer in (SGD(0.1), SGD(0.1, momentum=0.5), RMSprop())}
    assert list(kept.values()) == [set(), {"velocity"}, {"square"}]
    assert Adam().init(theta, xp=np).keys() == AdamW().init(theta, xp=np).keys() == {"first", "second"}
    assert Optimizer(0.1).init(theta, xp=np) == {}
    with pytest.raises(NotImplementedError):
        Optimizer(0.1).update(theta, {}, theta, {}, xp=np)


def test_plain_is_what_is_neither_slowed_nor_shrunk():
    assert SGD(0.1).plain
    assert not SGD(0.1, momentum=0.1).plain
    assert not SGD(0.1, weight_decay=0.1).plain
    assert not SGD(0.1, 0.1, weight_decay=0.1).plain


def test_hyperparameters_at_their_bounds_are_accepted():
    assert StepDecay(1, 1.0).factor(np.asarray([3.0])).tolist() == [1.0]
    assert WarmUp(1.0, 1.0).factor(np.asarray([0.0])).tolist() == [1.0]
    assert Cosine(1).length == 1
    assert (Adam(beta1=0.0, beta2=0.0).beta1, SGD(0.1, 0.0).momentum) == (0.0, 0.0)
    assert SGD(np.float32(0.5)).learning_rate == 0.5
    # In other libraries the second positional argument is not the weight decay.
    assert (SGD(0.1, 0.9).momentum, RMSprop(0.1, 0.8).decay, Adam(1e-3, 0.8, 0.9).beta2) == (0.9, 0.8, 0.9)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SGD(0.0), "learning_rate=0.0"),
        (lambda: SGD(float("nan")), "learning_rate=nan"),
        (lambda: SGD(0.1, weight_decay=-1.0), "weight_decay=-1.0"),
        (lambda: SGD(0.1, momentum=1.0), "momentum=1.0"),
        (lambda: SGD(0.1, nesterov=True), "nesterov=True: needs a momentum above 0"),
        (lambda: SGD(0.1, weight_decay=float("nan")), "weight_decay=nan"),
        (lambda: SGD(0.1, weight_decay=float("inf")), "weight_decay=inf"),
        (lambda: RMSprop(0.0), "learning_rate=0.0"),
        (lambda: RMSprop(epsilon=-1.0), "epsilon=-1.0"),
        (lambda: Adam(-1.0), "learning_rate=-1.0"),
        (lambda: AdamW(weight_decay=-1.0), "weight_decay=-1.0"),
        (lambda: Cosine(0), "epochs=0"),
        (lambda: Cosine(5, warm_up=-1.0), "warm_up=-1.0"),
        (lambda: Cosine(5, start=1.5), "start=1.5"),
        (lambda: WarmUp(start=0.0), "start=0.0"),
        (lambda: WarmUp(start=1.5), "start=1.5"),
        (lambda: StepDecay(1, 0.0), "gamma=0.0"),
        (lambda: Adam(beta1=1.0), "beta1=1.0"),
        (lambda: Adam(beta2=-0.5), "beta2=-0.5"),
        (lambda: Adam(epsilon=0.0), "epsilon=0.0"),
        (lambda: RMSprop(decay=1.5), "decay=1.5"),
        (lambda: StepDecay(0), "every=0"),
        (lambda: StepDecay(1, 2.0), "gamma=2.0"),
        (lambda: Cosine(5, warm_up=5.0), "warm_up=5.0"),
        (lambda: Cosine(5, floor=1.0), "floor=1.0"),
        (lambda: Cosine(5, start=0.0), "start=0.0"),
        (lambda: WarmUp(0.0), "epochs=0.0"),
    ],
)
def test_bad_hyperparameters_are_named(make, words):
    with pytest.raises(ValueError, match=f"^{re.escape(words)}"):
        make()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SGD("fast"), "learning_rate='fast'"),
        (lambda: SGD(True), "learning_rate=True"),
        (lambda: SGD(0.1, weight_decay=None), "weight_decay=None"),
        (lambda: SGD(0.1, momentum="much"), "momentum='much'"),
        (lambda: StepDecay(2.0), "every=2.0"),
        (lambda: StepDecay(1, "a"), "gamma='a'"),
        (lambda: Cosine(2.5), "epochs=2.5"),
        (lambda: Cosine(5, warm_up="a"), "warm_up='a'"),
        (lambda: WarmUp("a"), "epochs='a'"),
        (lambda: WarmUp(1.0, "a"), "start='a'"),
    ],
)
def test_what_is_no_number_is_named(make, words):
    with pytest.raises(TypeError, match=f"^{re.escape(words)}: must be an? "):
        make()
