"""The collect stage as a Python user would write it: timm model, forward hooks, DataLoader with workers, h5py.

Usage: peer.py WEIGHTS IMAGES OUTPUT --threads T --workers W --batch B --tokens N
Prints the images a second of one pass over all images, model loading left out.
"""

import argparse
import pathlib
import time

import h5py
import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision import transforms


class Photographs(torch.utils.data.Dataset):
    def __init__(self, folder):
        self.paths = sorted(pathlib.Path(folder).glob("*/*.jpg"))
        self.transform = transforms.Compose(
            [
                transforms.Resize(248, interpolation=transforms.InterpolationMode.BICUBIC),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize([0.5] * 3, [0.5] * 3),
            ]
        )

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return self.transform(Image.open(self.paths[index]).convert("RGB"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("weights")
    parser.add_argument("images")
    parser.add_argument("output")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    model.load_state_dict(load_file(options.weights))
    model.eval()
    taken = {}

    def keep(name, chosen):
        def hook(module, inputs, output):
            values = inputs[0] if name.endswith("x") else output
            taken[name] = values[torch.arange(values.shape[0])[:, None], chosen["tokens"]].half().numpy()

        return hook

    chosen = {}
    for layer, block in enumerate(model.blocks):
        block.mlp.register_forward_hook(keep(f"{layer}.x", chosen))
        block.mlp.act.register_forward_hook(keep(f"{layer}.h", chosen))
    loader = torch.utils.data.DataLoader(Photographs(options.images), batch_size=options.batch, num_workers=options.workers)
    generator = np.random.default_rng(1)
    count = 0
    begin = time.perf_counter()
    with torch.inference_mode(), h5py.File(options.output, "w") as file:
        sets = {}
        for images in loader:
            chosen["tokens"] = torch.from_numpy(
                np.stack([np.sort(generator.choice(197, options.tokens, replace=False)) for _ in range(len(images))])
            )
            model(images)
            for name, values in taken.items():
                rows = values.reshape(-1, values.shape[-1])
                if name not in sets:
                    sets[name] = file.create_dataset(
                        name, (0, rows.shape[1]), maxshape=(None, rows.shape[1]), dtype="f2", chunks=(512, rows.shape[1])
                    )
                sets[name].resize(len(sets[name]) + len(rows), axis=0)
                sets[name][-len(rows) :] = rows
            count += len(images)
    print(count / (time.perf_counter() - begin))


if __name__ == "__main__":
    main()
