"""Bits per byte on text that the candidate never saw.

The text is cut into windows of CONTEXT tokens. The candidate is asked for its logits, a batch of windows at a
time, in random order; the probabilities are computed here. A few windows are asked once more at the end: a
model that learns from the questions answers differently then, and is rejected.

A window's inputs are its own targets, shifted by one, so a model that looks ahead knows the answers. Hence two
fresh copies of a promising candidate are asked: one about windows as they are, the other about the same windows
with another text from a random token on. Before that token their logits must agree, and the first must answer
as the candidate itself did.
"""

import math

import numpy as np

CONTEXT = 256
BATCH = 8
#: Windows that are asked twice.
REPEATS = 16
#: Windows that the copies are asked; a model that looks ahead at one token in twenty is missed in 0.2 % of exams.
PROBES = 128
#: Logits of the same window may differ by so much: kernels of an accelerator round, they don't learn.
TOLERANCE = 0.1
#: Rounding goes both ways, a cheat helps: nats per token by which answers may be better on average. It is 0 on
#: a CPU; so much is 0.002 bits per byte.
DRIFT = 0.005
#: Tokens before a cut in which looking ahead must show.
NEAR = 8


def examine(exam):
    """The bits per byte, and their standard error over the windows."""
    tokens = np.fromfile(exam.data / "tokens.bin", "<u2")
    token_bytes = np.fromfile(exam.data / "token_bytes.bin", np.uint8)
    count = (len(tokens) - 1) // CONTEXT
    inputs = tokens[: count * CONTEXT].reshape(count, CONTEXT)
    targets = tokens[1 : count * CONTEXT + 1].reshape(count, CONTEXT)
    nats = np.zeros((count, CONTEXT))
    first, drift = {}, []
    for batch in batches(count, exam.rng):
        logits = ask(exam, inputs[batch], len(token_bytes))
        found = surprise(logits, targets[batch])
        for row, window in enumerate(batch):
            if window not in first:
                nats[window] = found[row]
            elif differ(first[window], logits[row]):
                raise exam.Reject(LEARNS)
            else:
                drift.append(nats[window].mean() - found[row].mean())
        for row in range(len(batch) if len(first) < REPEATS else 0):
            first[batch[row]] = logits[row]
    if np.mean(drift) > DRIFT:
        raise exam.Reject(LEARNS)
    exam.kept = inputs, targets, nats, len(token_bytes)
    return mean_and_error(nats.sum(axis=1) / math.log(2), token_bytes[targets].sum(axis=1, dtype=np.int64))


LEARNS = "a window asked twice got other logits: the model learns from the questions"


def compare(exam):
    """Whether two copies agree on what comes before a change, and one of them with what was scored."""
    inputs, targets, nats, vocabulary = exam.kept
    plain, changed = exam.rng.permutation(exam.twins)
    windows = exam.rng.permutation(np.resize(exam.rng.permutation(len(inputs)), PROBES))
    gains, drift = [], []
    for batch in windows.reshape(-1, BATCH):
        cuts = exam.rng.integers(1, CONTEXT, size=(BATCH, 1))
        before = np.arange(CONTEXT) < cuts
        others = inputs[exam.rng.integers(len(inputs), size=BATCH)]
        logits = ask(exam, inputs[batch], vocabulary, plain)
        found = surprise(logits, targets[batch])
        if differ(found, nats[batch]):
            raise exam.Reject("a fresh copy answers otherwise: what was saved is not what was examined")
        drift.append((found - nats[batch]).mean())
        blind = ask(exam, np.where(before, inputs[batch], others), vocabulary, changed)
        if differ(logits[before], blind[before]):
            raise exam.Reject(LOOKS_AHEAD)
        near = before & (np.arange(CONTEXT) >= cuts - NEAR)
        gains.append((surprise(blind, targets[batch]) - found)[near].sum() / BATCH)
    if np.mean(drift) > DRIFT:
        raise exam.Reject("fresh copies answer worse: the model learnt from the questions")
    if np.mean(gains) > DRIFT:
        raise exam.Reject(LOOKS_AHEAD)


LOOKS_AHEAD = "logits depend on later tokens: the model is not causal"


def differ(one, other):
    return not np.allclose(one, other, rtol=0, atol=TOLERANCE)


def batches(count, rng):
    """Every window once in random order, then the first REPEATS of them again, in batches of one size."""
    order = rng.permutation(count)
    again = rng.permutation(order[:REPEATS])
    whole = np.concatenate([order, np.resize(again, len(again) + -(count + len(again)) % BATCH)])
    return whole.reshape(-1, BATCH)


def ask(exam, tokens, vocabulary, of=0):
    """Logits of a batch, float32 [BATCH, CONTEXT, vocabulary]; whatever else comes is rejected."""
    logits = exam.ask({"tokens": tokens}, of).get("logits")
    shape = (*tokens.shape, vocabulary)
    if not isinstance(logits, np.ndarray) or logits.dtype != np.float16 or logits.shape != shape:
        raise exam.Reject(f"expected logits, float16 of shape {shape}")
    logits = logits.astype(np.float32)
    # a sum is finite only if all that it adds is; float16 can't overflow float32 here
    if not math.isfinite(logits.sum()):
        raise exam.Reject("logits that are not finite")
    return logits


def surprise(logits, targets):
    """-ln of the probability of the targets: [windows, CONTEXT]."""
    chosen = np.take_along_axis(logits, targets[..., None].astype(np.int64), axis=-1)[..., 0]
    top = logits.max(axis=-1, keepdims=True)
    logits = logits - top
    total = np.exp(logits, out=logits).sum(axis=-1, dtype=np.float64)
    return np.log(total) + top[..., 0] - chosen


def mean_and_error(bits, sizes):
    """Bits per byte of all windows together, and the standard error of that ratio."""
    metric = bits.sum() / sizes.sum()
    rest = bits - metric * sizes
    error = math.sqrt(len(bits) / max(1, len(bits) - 1) * (rest**2).sum()) / sizes.sum()
    return {"metric": float(metric), "se": float(error)}
