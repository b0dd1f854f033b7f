"""The same work in other libraries, written as in their documentation, for comparison with xpnet."""

import numpy as np


def notebook_epoch(x, labels, x_test, labels_test, hidden=100, rate=0.005):
    """Return a function that runs one epoch of the NumPy tutorial's loop, test images one by one included."""
    rng = np.random.RandomState(1)
    w1, w2 = 0.2 * rng.random((x.shape[1], hidden)) - 0.1, 0.2 * rng.random((hidden, 10)) - 0.1
    wanted, wanted_test = np.eye(10)[labels], np.eye(10)[labels_test]

    def epoch():
        error = hits = 0.0
        for k in range(len(x)):
            h = np.dot(x[k], w1)
            h = (h >= 0) * h
            mask = rng.randint(0, 2, size=h.shape)
            h *= mask * 2
            out = np.dot(h, w2)
            error += np.sum((wanted[k] - out) ** 2)
            hits += int(np.argmax(out) == np.argmax(wanted[k]))
            d_out = wanted[k] - out
            d_h = np.dot(w2, d_out) * (h >= 0) * mask
            w1[:] += rate * np.outer(x[k], d_h)
            w2[:] += rate * np.outer(h, d_out)
        for k in range(len(x_test)):
            h = np.dot(x_test[k], w1)
            out = np.dot((h >= 0) * h, w2)
            error += np.sum((wanted_test[k] - out) ** 2)
            hits += int(np.argmax(out) == np.argmax(wanted_test[k]))

    return epoch


def torch_mlp_epoch(images, labels, batch, rate=1e-3, device="cpu"):
    """Return one epoch of 784-100-10 with Adam and dropout in eager torch, loss and accuracy added up."""
    import torch

    x = torch.tensor(images.reshape(len(images), -1), device=device, dtype=torch.float32) / 255.0
    y = torch.tensor(labels.astype(np.int64), device=device)
    n = torch.nn
    model = n.Sequential(n.Linear(784, 100), n.ReLU(), n.Dropout(0.2), n.Linear(100, 10)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    loss_of = n.CrossEntropyLoss()

    def epoch():
        model.train()
        total, hits = torch.zeros((), device=device), torch.zeros((), device=device)
        for index in torch.randperm(len(x), device=device).split(batch):
            target = y[index]
            logits = model(x[index])
            loss = loss_of(logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(index)
            hits += (logits.argmax(1) == target).sum()
        return float(total), float(hits)

    return epoch


def torch_graph_mlp_epoch(images, labels, batch, rate=1e-3):
    """Return the same on a GPU, with the whole step captured once as a CUDA graph and replayed."""
    import torch

    x = torch.tensor(images.reshape(len(images), -1), device="cuda", dtype=torch.float32) / 255.0
    y = torch.tensor(labels.astype(np.int64), device="cuda")
    n = torch.nn
    model = n.Sequential(n.Linear(784, 100), n.ReLU(), n.Dropout(0.2), n.Linear(100, 10)).cuda()
    optimizer = torch.optim.Adam(model.parameters(), rate, capturable=True)
    loss_of = n.CrossEntropyLoss()
    index = torch.arange(batch, device="cuda")
    total, hits = torch.zeros((), device="cuda"), torch.zeros((), device="cuda")

    def step():
        target = y[index]
        optimizer.zero_grad(set_to_none=True)
        logits = model(x[index])
        loss = loss_of(logits, target)
        loss.backward()
        optimizer.step()
        total.add_(loss.detach() * batch)
        hits.add_((logits.argmax(1) == target).sum())

    # Before a capture some steps have to be run on a stream of their own.
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def epoch():
        total.zero_()
        hits.zero_()
        # A graph has one shape, so samples that do not fill a batch are left out.
        for part in torch.randperm(len(x), device="cuda").split(batch):
            if len(part) == batch:
                index.copy_(part)
                graph.replay()
        return float(total), float(hits)

    return epoch


def sklearn_mlp_epoch(images, labels, batch, rate=1e-3):
    """Return one epoch of scikit-learn's MLPClassifier (which has no dropout)."""
    from sklearn.neural_network import MLPClassifier

    x = (images.reshape(len(images), -1) / 255.0).astype(np.float32)
    model = MLPClassifier((100,), learning_rate_init=rate, batch_size=batch, alpha=0.0)
    classes = np.arange(10)
    return lambda: model.partial_fit(x, labels, classes=classes)


def jax_mlp_epoch(images, labels, batch, rate=1e-3):
    """Return one epoch as a jitted scan over batches, gradients by jax.grad, Adam by hand."""
    import jax
    import jax.numpy as jnp

    x = jnp.asarray(images.reshape(len(images), -1), jnp.float32) / 255.0
    y = jnp.asarray(labels)
    steps = len(x) // batch
    keys = jax.random.split(jax.random.key(0), 3)
    scale = [np.sqrt(2.0 / 784), np.sqrt(2.0 / 100)]
    params = {
        "w1": scale[0] * jax.random.normal(keys[0], (784, 100)),
        "b1": jnp.zeros(100),
        "w2": scale[1] * jax.random.normal(keys[1], (100, 10)),
        "b2": jnp.zeros(10),
    }
    zeros = jax.tree.map(jnp.zeros_like, params)
    state = {"params": params, "m": zeros, "v": zeros, "t": jnp.zeros(()), "key": keys[2]}

    def loss_of(params, x, y, key):
        h = jax.nn.relu(x @ params["w1"] + params["b1"])
        h = h * jax.random.bernoulli(key, 0.8, h.shape) / 0.8
        logits = h @ params["w2"] + params["b2"]
        loss = -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1))
        return loss, jnp.sum(jnp.argmax(logits, axis=1) == y)

    @jax.jit
    def run(state):
        key, shuffle = jax.random.split(state["key"])
        order = jax.random.permutation(shuffle, len(x))[: steps * batch].reshape(steps, batch)

        def step(carry, index):
            params, m, v, t, key = carry
            key, noise = jax.random.split(key)
            (loss, hits), grads = jax.value_and_grad(loss_of, has_aux=True)(params, x[index], y[index], noise)
            t = t + 1
            m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
            v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
            a, b = 1 - 0.9**t, 1 - 0.999**t
            params = jax.tree.map(lambda p, m, v: p - rate * (m / a) / (jnp.sqrt(v / b) + 1e-8), params, m, v)
            return (params, m, v, t, key), (loss, hits)

        first = (state["params"], state["m"], state["v"], state["t"], key)
        (params, m, v, t, key), sums = jax.lax.scan(step, first, order)
        return {"params": params, "m": m, "v": v, "t": t, "key": key}, sums

    box = [state]

    def epoch():
        box[0], sums = run(box[0])
        return [float(s.sum()) for s in sums]

    return epoch


def numpy_mlp_epoch(images, labels, batch, rate=1e-3):
    """Return one epoch of hand-written NumPy that works in place wherever it can."""
    rng = np.random.default_rng(0)
    f = np.float32
    x = images.reshape(len(images), -1)
    w1 = (rng.normal(size=(784, 100)) * np.sqrt(2 / 784)).astype(f)
    w2 = (rng.normal(size=(100, 10)) * np.sqrt(2 / 100)).astype(f)
    params = [w1, np.zeros(100, f), w2, np.zeros(10, f)]
    moments = [(np.zeros_like(p), np.zeros_like(p), np.empty_like(p)) for p in params]
    one_hot = np.eye(10, dtype=f)[labels]
    t = 0

    def adam(p, g, m, v, work, step, epsilon):
        m *= f(0.9)
        np.multiply(g, f(0.1), out=work)
        m += work
        v *= f(0.999)
        np.multiply(g, g, out=work)
        work *= f(0.001)
        v += work
        np.sqrt(v, out=work)
        work += f(epsilon)
        np.divide(m, work, out=work)
        work *= f(step)
        p -= work

    def epoch():
        nonlocal t
        order = rng.permutation(len(x))
        total = hits = 0.0
        keep_all = rng.random((len(x), 100), dtype=f) >= 0.2
        for start in range(0, len(x), batch):
            index = order[start : start + batch]
            xb = x[index].astype(f)
            xb *= f(1 / 255)
            h = xb @ w1
            h += params[1]
            np.maximum(h, 0, out=h)
            keep = keep_all[start : start + batch] * f(1.25)
            active = h > 0
            h *= keep
            z = h @ w2
            z += params[3]
            z -= z.max(axis=1, keepdims=True)
            hits += np.sum(z.argmax(axis=1) == labels[index])
            p = np.exp(z)
            s = p.sum(axis=1, keepdims=True)
            p /= s
            wanted = one_hot[index]
            total += np.log(s).sum() - (z * wanted).sum()
            p -= wanted
            p *= f(1 / len(index))
            dh = p @ w2.T
            dh *= keep
            dh *= active
            grads = [xb.T @ dh, dh.sum(axis=0), h.T @ p, p.sum(axis=0)]
            t += 1
            root = np.sqrt(1 - 0.999**t)
            for parameter, g, (m, v, work) in zip(params, grads, moments, strict=True):
                adam(parameter, g, m, v, work, rate * root / (1 - 0.9**t), 1e-8 * root)
        return total, hits

    return epoch


def matrix_products_epoch(n, batch):
    """Return the five matrix products of an epoch alone, on arrays that lie ready."""
    rng = np.random.default_rng(0)
    f = np.float32
    x, w1, w2 = rng.random((batch, 784), f), rng.random((784, 100), f), rng.random((100, 10), f)
    h, p = rng.random((batch, 100), f), rng.random((batch, 10), f)

    def epoch():
        for _ in range(n // batch):
            _ = x @ w1, h @ w2, p @ w2.T, x.T @ h, h.T @ p

    return epoch


def torch_network(layers):
    """Return an equal network in torch: ``layers`` are xpnet's; each is translated to its counterpart."""
    import torch

    import xpnet

    n = torch.nn
    channels, size = 1, 28
    modules, features = [], None
    for layer in layers:
        if isinstance(layer, xpnet.Conv2D):
            kernel, _, padding = layer.geometry
            modules.append(n.Conv2d(channels, layer.filters, kernel, padding=padding, bias=layer.bias))
            channels, size = layer.filters, size + 2 * padding[0] - kernel[0] + 1
        elif isinstance(layer, xpnet.MaxPool2D):
            modules.append(n.MaxPool2d(2))
            size //= 2
        elif isinstance(layer, xpnet.Flatten):
            modules.append(n.Flatten())
            features = channels * size * size
        elif isinstance(layer, xpnet.Dense):
            modules.append(n.Linear(features, layer.units, bias=layer.bias))
            features = layer.units
        elif isinstance(layer, xpnet.BatchNorm):
            modules.append(n.BatchNorm1d(features) if features else n.BatchNorm2d(channels))
        elif isinstance(layer, xpnet.ReLU):
            modules.append(n.ReLU())
        elif isinstance(layer, xpnet.Dropout):
            modules.append(n.Dropout(layer.rate))
    return n.Sequential(*modules)


def torch_until(plan, data, wanted):
    """Return what trains an equal network with the same schedule until so much of the test set is right."""
    import torch

    def tensors(images, labels):
        return torch.tensor(images[:, None], dtype=torch.float32) / 255.0, torch.tensor(labels.astype(np.int64))

    (x, y), (x_test, y_test) = (
        tensors(data.train_images, data.train_labels),
        tensors(data.test_images, data.test_labels),
    )

    def run():
        model, steps = torch_network(plan.network.layers), -(-len(x) // plan.batch_size)
        optimizer = torch.optim.Adam(model.parameters())
        for epoch in range(plan.epochs):
            model.train()
            for i, index in enumerate(torch.randperm(len(x)).split(plan.batch_size)):
                rate = plan.optimizer.learning_rate * float(plan.schedule.factor(np.asarray(epoch + i / steps)))
                optimizer.param_groups[0]["lr"] = rate
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(x[index]), y[index]).backward()
                optimizer.step()
            model.eval()
            parts = zip(x_test.split(1000), y_test.split(1000), strict=True)
            with torch.no_grad():
                right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in parts)
            if right >= wanted * len(x_test):
                return

    return run


def torch_network_step(layers, images, labels):
    """Return a training step of an equal network in eager torch, plain SGD."""
    import torch

    model = torch_network(layers)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    x = torch.tensor(images.reshape(-1, 1, 28, 28), dtype=torch.float32) / 255.0
    y = torch.tensor(labels.astype(np.int64))

    def step():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step
