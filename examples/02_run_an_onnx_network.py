"""Run a network that `bmdkit export RUN --out DIR --format onnx` wrote, without bmdkit: python THIS DIR/model.onnx."""

import sys

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
given = session.get_inputs()[0]
shape = [side if isinstance(side, int) else 256 for side in given.shape]  # sides that are free are multiples of 16
if len(sys.argv) > 2:  # an image saved by numpy.save, (rows, columns), scaled as the card beside model.onnx says
    image = np.load(sys.argv[2]).astype(np.float32).reshape(1, 1, *shape[2:])
else:  # a bright disc, to see that it runs
    v, u = np.mgrid[: shape[2], : shape[3]]
    disc = (v - shape[2] / 2) ** 2 + (u - shape[3] / 2) ** 2 < (min(shape[2:]) / 4) ** 2
    image = np.where(disc, 1.0, -1.0).astype(np.float32)[None, None]

(prediction,) = session.run(None, {given.name: image})
print(f"{given.name} {image.shape} -> {session.get_outputs()[0].name} {prediction.shape}")
print(f"{prediction.min():.4f} to {prediction.max():.4f}, mean {prediction.mean():.4f}")
