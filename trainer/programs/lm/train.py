"""A small GPT, trained from nothing within the budget.

This file is the asset: the one that may change. The runner calls ``train(run)`` when the clock starts, and
puts the examiner's questions to what it returns: a function (here a module) from tokens, int64 of shape
[windows, length], to logits of shape [windows, length, vocabulary]; those of a token may depend on it and on
those before it only. ``run`` has

    tokens        the training text, uint16 tokens in one array
    vocabulary    how many different tokens there are
    context       how long the examiner's windows are, in tokens
    device        "cpu", "cuda" or "mps"
    seed          this run's seed
    fraction()    how much of the budget is spent; training over 1.0 is a failure
    report(loss)  say how it goes, in nats per token

The model is the classical one: learned positions, pre-norm blocks, GELU, AdamW.
"""

import math
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from tunables import Choice, Int, Log, Uniform, When

# Size. These are a CPU core's; an accelerator gets a multiple of them, see LARGER.
DEPTH: Annotated[int, Int(1, 4)] = 2
WIDTH: Annotated[int, Choice(64, 128, 192, 256)] = 128
HEAD_SIZE: Annotated[int, Choice(16, 32, 64, 128)] = 32
MLP_RATIO: Annotated[int, Int(1, 6)] = 4
BATCH: Annotated[int, Int(1, 16, log=True)] = 4
LENGTH: Annotated[int, Choice(64, 128, 256)] = 256  # tokens of a training window

# Structure.
NORM: Annotated[str, Choice("layer", "rms")] = "layer"
ACTIVATION: Annotated[str, Choice("gelu", "silu", "relu2")] = "gelu"
POSITIONS: Annotated[str, Choice("learned", "rotary")] = "learned"
QK_NORM: Annotated[bool, Choice(False, True)] = False
BIAS: Annotated[bool, Choice(False, True)] = True
TIED: Annotated[bool, Choice(False, True)] = False  # one matrix for the embedding and the logits
DROPOUT: Annotated[float, Uniform(0.0, 0.3)] = 0.0

# Initial weights.
INIT_STD: Annotated[float, Log(0.003, 0.1)] = 0.02
EMBEDDING_STD: Annotated[float, Log(0.003, 1.0)] = 0.02
ZERO_OUTPUTS: Annotated[bool, Choice(False, True)] = False  # each block begins as the identity

# Optimiser. Muon is for the blocks' matrices; all else has Adam.
OPTIMIZER: Annotated[str, Choice("adamw", "muon")] = "adamw"
MUON_RATE: Annotated[float, Log(1.0, 100.0), When("OPTIMIZER", "muon")] = 10.0  # times the learning rate
LEARNING_RATE: Annotated[float, Log(1e-4, 3e-2)] = 1e-3
EMBEDDING_RATE: Annotated[float, Log(0.1, 30.0)] = 1.0  # times the learning rate
BETA1: Annotated[float, Uniform(0.7, 0.98)] = 0.9
BETA2: Annotated[float, Uniform(0.9, 0.999)] = 0.95
WEIGHT_DECAY: Annotated[float, Log(1e-3, 1.0)] = 0.1
CLIP: Annotated[float, Log(0.1, 10.0)] = 1.0

# Learning rate over the budget: up within WARMUP, then as SCHEDULE says.
SCHEDULE: Annotated[str, Choice("constant", "wsd", "cosine")] = "constant"
WARMUP: Annotated[float, Uniform(0.0, 0.2)] = 0.02
COOLDOWN: Annotated[float, Uniform(0.1, 0.9), When("SCHEDULE", "wsd")] = 0.4  # the budget's share in which it falls

# An accelerator does some hundred times a core's work: a deeper and wider model, many windows at once, and
# dropout, since it passes over the text many times.
LARGER = {"depth": 3, "width": 3, "head_size": 2, "batch": 16, "dropout": 0.2}
EPSILON = 1e-8
MOMENTUM = 0.95


class Norm(nn.Module):
    """LayerNorm or RMSNorm over the last dimension."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if NORM == "layer" and BIAS else None

    def forward(self, x: Tensor) -> Tensor:
        if NORM == "layer":
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias)
        return F.rms_norm(x, x.shape[-1:], self.weight)


class Rotary(nn.Module):
    """Rotary positions (Su et al. 2021): turns pairs of a head's features by the position."""

    def __init__(self, head_size: int, context: int) -> None:
        super().__init__()
        speed = 10000.0 ** -torch.linspace(0, 1, head_size // 2)
        angle = torch.outer(torch.arange(context), speed)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        cos, sin = self.cos[: x.shape[-2]], self.sin[: x.shape[-2]]
        return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1).type_as(x)


class Attention(nn.Module):
    """Causal self-attention with several heads."""

    def __init__(self, width: int, head_size: int, context: int, dropout: float) -> None:
        super().__init__()
        self.heads = max(1, width // head_size)
        self.dropout = dropout
        self.inputs = nn.Linear(width, 3 * width, bias=BIAS)
        self.output = nn.Linear(width, width, bias=BIAS)
        self.rotary = Rotary(width // self.heads, context) if POSITIONS == "rotary" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        windows, length, width = x.shape
        shape = (windows, length, 3, self.heads, width // self.heads)
        q, k, v = self.inputs(x).view(shape).permute(2, 0, 3, 1, 4)
        if QK_NORM:
            q, k = F.rms_norm(q, q.shape[-1:]), F.rms_norm(k, k.shape[-1:])
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(
            self.rotary(q), self.rotary(k), v, is_causal=True, dropout_p=dropout
        )
        return self.output(y.transpose(1, 2).reshape(windows, length, width))


class MLP(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.input = nn.Linear(width, MLP_RATIO * width, bias=BIAS)
        self.output = nn.Linear(MLP_RATIO * width, width, bias=BIAS)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(activation(self.input(x)))


def activation(x: Tensor) -> Tensor:
    if ACTIVATION == "relu2":
        return F.relu(x).square()
    return F.silu(x) if ACTIVATION == "silu" else F.gelu(x)


class Block(nn.Module):
    """Attention and MLP, each on a normed copy of the residual stream."""

    def __init__(self, width: int, head_size: int, context: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.attention = Norm(width), Attention(width, head_size, context, dropout)
        self.mlp_norm, self.mlp = Norm(width), MLP(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class GPT(nn.Module):
    """Tokens [windows, length] to logits [windows, length, vocabulary]."""

    def __init__(
        self, vocabulary: int, context: int, depth: int, width: int, head_size: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width) if POSITIONS == "learned" else None
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, head_size, context, dropout) for _ in range(depth))
        self.norm = Norm(width)
        self.logits = nn.Linear(width, vocabulary, bias=False)
        if TIED:
            self.logits.weight = self.embedding.weight
        self.apply(initialise)
        if ZERO_OUTPUTS:
            for block in self.blocks:
                nn.init.zeros_(block.attention.output.weight)
                nn.init.zeros_(block.mlp.output.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        if self.positions is not None:
            x = x + self.positions.weight[: tokens.shape[1]]
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        return self.logits(self.norm(x))


def initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=INIT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=EMBEDDING_STD)


class Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019); vectors don't decay.

    With Muon (Jordan 2024) a matrix of a block moves by its momentum, all of whose directions count alike.
    Written out because importing torch.optim's costs every run two seconds.
    """

    def __init__(self, model: GPT) -> None:
        embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
        blocks = {id(parameter) for parameter in model.blocks.parameters() if parameter.ndim == 2}
        self.parameters = [
            (
                parameter, torch.zeros_like(parameter), torch.zeros_like(parameter),
                LEARNING_RATE * EMBEDDING_RATE if id(parameter) in embeddings else LEARNING_RATE,
                OPTIMIZER == "muon" and id(parameter) in blocks,
            )
            for parameter in model.parameters()
        ]  # fmt: skip
        self.steps = 0

    @torch.no_grad()
    def step(self, factor: float) -> None:
        self.steps += 1
        unbias1, unbias2 = 1 - BETA1**self.steps, 1 - BETA2**self.steps
        for parameter, mean, square, rate, muon in self.parameters:
            gradient, parameter.grad = parameter.grad, None
            pace = factor * rate
            if parameter.ndim > 1:
                parameter.mul_(1 - factor * LEARNING_RATE * WEIGHT_DECAY)
            if muon:
                mean.lerp_(gradient, 1 - MOMENTUM)
                parameter.sub_(orthogonal(gradient.lerp(mean, MOMENTUM)), alpha=pace * MUON_RATE)
                continue
            mean.lerp_(gradient, 1 - BETA1)
            square.lerp_(gradient.square(), 1 - BETA2)
            parameter.addcdiv_(mean, (square / unbias2).sqrt_().add_(EPSILON), value=-pace / unbias1)


def orthogonal(matrix: Tensor) -> Tensor:
    """``matrix`` with all singular values near 1, larger where it makes more of less: five Newton-Schulz steps."""
    rows, columns = matrix.shape
    x = matrix / (matrix.norm() + EPSILON)
    for _ in range(5):
        square = x @ x.T if rows < columns else x.T @ x
        mixed = -4.7750 * square + 2.0315 * square @ square
        x = 3.4445 * x + (mixed @ x if rows < columns else x @ mixed)
    return x * max(1.0, rows / columns) ** 0.5


def build(run) -> tuple[GPT, int]:
    """The model for this device, and how many windows make a batch."""
    depth, width, head_size, batch, dropout = DEPTH, WIDTH, HEAD_SIZE, BATCH, DROPOUT
    if run.device != "cpu":
        depth, batch = depth * LARGER["depth"], batch * LARGER["batch"]
        width, head_size = width * LARGER["width"], head_size * LARGER["head_size"]
        dropout = max(dropout, LARGER["dropout"])
    return GPT(run.vocabulary, run.context, depth, width, head_size, dropout).to(run.device), batch


def schedule(fraction: float) -> float:
    """The learning rate's factor when ``fraction`` of the budget is spent."""
    factor = 1.0
    if SCHEDULE == "wsd":
        factor = min(1.0, (1.0 - fraction) / COOLDOWN)
    elif SCHEDULE == "cosine":
        factor = 0.5 * (1.0 + math.cos(math.pi * fraction))
    return factor * min(1.0, fraction / WARMUP if WARMUP else 1.0)


def draw(tokens: np.ndarray, batch: int, length: int, rng: np.random.Generator) -> Tensor:
    """Windows of ``length`` + 1 tokens from anywhere in the text: int64 [batch, length + 1]."""
    starts = rng.integers(len(tokens) - length, size=(batch, 1))
    return torch.from_numpy(tokens[starts + np.arange(length + 1)].astype(np.int64))


def train(run) -> GPT:
    torch.manual_seed(run.seed)
    rng = np.random.default_rng(run.seed)
    model, batch = build(run)
    optimizer = Optimizer(model)
    half = torch.autocast(run.device, torch.bfloat16, enabled=run.device == "cuda")
    fraction, step = run.fraction(), 0.0
    while fraction + step < 1.0:  # another step like the last one fits
        windows = draw(run.tokens, batch, LENGTH, rng).to(run.device)
        with half:
            logits = model(windows[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step(schedule(fraction))
        run.report(loss.item())
        step = run.fraction() - fraction
        fraction += step
    return model.eval()
