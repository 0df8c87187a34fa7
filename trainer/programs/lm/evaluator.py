"""Bits per byte on text that the candidate never saw.

The text is cut into windows of CONTEXT tokens. The candidate is asked for its logits, a batch of windows at a
time, in random order; the probabilities are computed here. A few windows are asked once more at the end: a
model that learns from the questions answers differently then, and is rejected.
"""

import math

import numpy as np

CONTEXT = 256
BATCH = 8
#: Windows that are asked twice.
REPEATS = 16
#: Logits of the same window may differ by so much: kernels of an accelerator round, they don't learn.
TOLERANCE = 0.1


def examine(exam):
    """The bits per byte, and their standard error over the windows."""
    tokens = np.fromfile(exam.data / "tokens.bin", "<u2")
    token_bytes = np.fromfile(exam.data / "token_bytes.bin", np.uint8)
    count = (len(tokens) - 1) // CONTEXT
    inputs = tokens[: count * CONTEXT].reshape(count, CONTEXT)
    targets = tokens[1 : count * CONTEXT + 1].reshape(count, CONTEXT)
    bits = np.zeros(count)
    first = {}
    for batch in batches(count, exam.rng):
        logits = ask(exam, inputs[batch], len(token_bytes))
        again = [(first[window], logits[row]) for row, window in enumerate(batch) if window in first]
        if any(not np.allclose(before, after, rtol=0, atol=TOLERANCE) for before, after in again):
            raise exam.Reject("a window asked twice got other logits: the model learns from the questions")
        bits[batch] = surprise(logits, targets[batch])
        for row in range(len(batch) if len(first) < REPEATS else 0):
            first[batch[row]] = logits[row]
    return mean_and_error(bits, token_bytes[targets].sum(axis=1, dtype=np.int64))


def batches(count, rng):
    """Every window once in random order, then the first REPEATS of them again, in batches of one size."""
    order = rng.permutation(count)
    again = rng.permutation(order[:REPEATS])
    whole = np.concatenate([order, np.resize(again, len(again) + -(count + len(again)) % BATCH)])
    return whole.reshape(-1, BATCH)


def ask(exam, tokens, vocabulary):
    """Logits of a batch, float32 [BATCH, CONTEXT, vocabulary]; whatever else comes is rejected."""
    logits = exam.ask({"tokens": tokens}).get("logits")
    shape = (*tokens.shape, vocabulary)
    if not isinstance(logits, np.ndarray) or logits.dtype != np.float16 or logits.shape != shape:
        raise exam.Reject(f"expected logits, float16 of shape {shape}")
    logits = logits.astype(np.float32)
    # a sum is finite only if all that it adds is; float16 can't overflow float32 here
    if not math.isfinite(logits.sum()):
        raise exam.Reject("logits that are not finite")
    return logits


def surprise(logits, targets):
    """-log2 of the probability of the targets, summed per window: [windows]."""
    chosen = np.take_along_axis(logits, targets[..., None].astype(np.int64), axis=-1)[..., 0]
    top = logits.max(axis=-1, keepdims=True)
    logits = logits - top
    total = np.exp(logits, out=logits).sum(axis=-1, dtype=np.float64)
    nats = np.log(total) + top[..., 0] - chosen
    return nats.sum(axis=-1) / math.log(2)


def mean_and_error(bits, sizes):
    """Bits per byte of all windows together, and the standard error of that ratio."""
    metric = bits.sum() / sizes.sum()
    rest = bits - metric * sizes
    error = math.sqrt(len(bits) / max(1, len(bits) - 1) * (rest**2).sum()) / sizes.sum()
    return {"metric": float(metric), "se": float(error)}
