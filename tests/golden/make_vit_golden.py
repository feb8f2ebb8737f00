"""Makes tests/golden/vit_*.safetensors: tiny Vision Transformers with random weights, pictures and the logits that an
independent NumPy implementation in float64 gets from them.

    python tests/golden/make_vit_golden.py

Run by hand when a variant is added, in an environment with NumPy and safetensors. Tensor names and the order of
operations are timm's (timm/models/vision_transformer.py). Beside the weights a file holds golden.images [n, 3, 8, 8] and
golden.logits [n, classes].
"""

import math
import pathlib

import numpy as np
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).resolve().parent
WIDTH, DEPTH, HEADS, HIDDEN, PATCH, SIDE, CLASSES, IMAGES = 8, 2, 2, 12, 4, 8, 5, 3
EPSILON = 1e-6
VARIANTS = {
    "plain": {},
    "no_qkv_bias": {"qkv_bias": False},
    "no_class_token": {"class_token": False},
    "distilled": {"distilled": True},
    "positions_of_patches": {"patch_positions": True},
}


def make_weights(random, qkv_bias=True, class_token=True, distilled=False, patch_positions=False):
    def matrix(*shape):
        return random.normal(0, 0.5, shape)

    weights = {
        "patch_embed.proj.weight": matrix(WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": matrix(WIDTH),
    }
    patches = (SIDE // PATCH) ** 2
    prefix = int(class_token) + int(distilled)
    weights["pos_embed"] = matrix(1, patches + (0 if patch_positions else prefix), WIDTH)
    if class_token:
        weights["cls_token"] = matrix(1, 1, WIDTH)
    if distilled:
        weights["dist_token"] = matrix(1, 1, WIDTH)
        weights["head_dist.weight"] = matrix(CLASSES, WIDTH)
        weights["head_dist.bias"] = matrix(CLASSES)
    norms = ["norm" if class_token else "fc_norm"]
    for layer in range(DEPTH):
        block = f"blocks.{layer}."
        norms += [block + "norm1", block + "norm2"]
        weights[block + "attn.qkv.weight"] = matrix(3 * WIDTH, WIDTH)
        if qkv_bias:
            weights[block + "attn.qkv.bias"] = matrix(3 * WIDTH)
        weights[block + "attn.proj.weight"] = matrix(WIDTH, WIDTH)
        weights[block + "attn.proj.bias"] = matrix(WIDTH)
        weights[block + "mlp.fc1.weight"] = matrix(HIDDEN, WIDTH)
        weights[block + "mlp.fc1.bias"] = matrix(HIDDEN)
        weights[block + "mlp.fc2.weight"] = matrix(WIDTH, HIDDEN)
        weights[block + "mlp.fc2.bias"] = matrix(WIDTH)
    for norm in norms:
        weights[norm + ".weight"] = 1 + matrix(WIDTH)
        weights[norm + ".bias"] = matrix(WIDTH)
    weights["head.weight"] = matrix(CLASSES, WIDTH)
    weights["head.bias"] = matrix(CLASSES)
    return {name: value.astype(np.float32) for name, value in weights.items()}


def forward(image, w):
    """Logits of one picture [3, SIDE, SIDE], one scalar product after the other, in float64."""
    w = {name: value.astype(np.float64) for name, value in w.items()}

    def linear(x, name):
        y = x @ w[name + ".weight"].T
        return y + w[name + ".bias"] if name + ".bias" in w else y

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON) * w[name + ".weight"] + w[name + ".bias"]

    def gelu(x):
        return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    tokens = []
    for top in range(0, SIDE, PATCH):
        for left in range(0, SIDE, PATCH):
            patch = image[:, top : top + PATCH, left : left + PATCH]
            tokens.append(linear_patch(patch, w))
    x = np.stack(tokens)
    prefix = [w[name][0, 0] for name in ("cls_token", "dist_token") if name in w]
    position = w["pos_embed"][0]
    if len(position) == len(x):
        x = x + position
        x = np.stack(prefix + list(x))
    else:
        x = np.stack(prefix + list(x)) + position

    size = WIDTH // HEADS
    for layer in range(DEPTH):
        block = f"blocks.{layer}."
        qkv = linear(norm(x, block + "norm1"), block + "attn.qkv")
        mixed = np.zeros_like(x)
        for head in range(HEADS):
            q, k, v = (qkv[:, part * WIDTH + head * size : part * WIDTH + (head + 1) * size] for part in range(3))
            scores = np.exp(q @ k.T / math.sqrt(size))
            mixed[:, head * size : (head + 1) * size] = scores / scores.sum(-1, keepdims=True) @ v
        x = x + linear(mixed, block + "attn.proj")
        x = x + linear(gelu(linear(norm(x, block + "norm2"), block + "mlp.fc1")), block + "mlp.fc2")

    if not prefix:
        return linear(norm(x.mean(0), "fc_norm"), "head")
    x = norm(x, "norm")
    if len(prefix) == 1:
        return linear(x[0], "head")
    return (linear(x[0], "head") + linear(x[1], "head_dist")) / 2


def linear_patch(patch, w):
    kernel = w["patch_embed.proj.weight"]
    return np.array([(kernel[i] * patch).sum() for i in range(WIDTH)]) + w["patch_embed.proj.bias"]


def main():
    for seed, (name, options) in enumerate(VARIANTS.items()):
        random = np.random.default_rng(seed)
        weights = make_weights(random, **options)
        images = random.normal(0, 1, (IMAGES, 3, SIDE, SIDE)).astype(np.float32)
        logits = np.stack([forward(image.astype(np.float64), weights) for image in images])
        save_file(
            weights | {"golden.images": images, "golden.logits": logits.astype(np.float32)},
            HERE / f"vit_{name}.safetensors",
        )


if __name__ == "__main__":
    main()
