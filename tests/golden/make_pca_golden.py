"""Makes tests/golden/pca_golden.txt: float16 rows and what NumPy and scikit-learn say of their principal components.

    python tests/golden/make_pca_golden.py

Made with numpy 2.2.6 and scikit-learn 1.7.2. For each case: the rows as float16 bits; mean and covariance by NumPy in
double; the axes (eigenvectors of the covariance, descending, the entry of largest magnitude positive) and variances.
scikit-learn's PCA must agree with them, up to the sign of an axis, before the file is written.
"""

import pathlib

import numpy as np
from sklearn.decomposition import PCA

HERE = pathlib.Path(__file__).resolve().parent


def data_sets():
    random = np.random.default_rng(11)
    mix = random.normal(0, 1, (9, 9))
    yield "mixed", random.normal(0, 1, (400, 9)) @ mix + random.normal(0, 5, 9), False
    scales = np.array([1000, 1, 1, 0.1, 3, 0.02, 30])  # one neuron carries nearly all of the variance
    yield "massive", random.normal(0, 1, (300, 7)) * scales + scales, False
    yield "unit", random.normal(0, 1, (250, 6)) * np.arange(1, 7) + 2, True


def main():
    out = []
    for name, rows, unit_length in data_sets():
        rows = rows.astype(np.float16)
        values = rows.astype(np.float64)
        if unit_length:
            values /= np.linalg.norm(values, axis=1, keepdims=True)
        covariance = np.cov(values, rowvar=False)
        variances, axes = np.linalg.eigh(covariance)
        variances, axes = variances[::-1], axes[:, ::-1].T
        axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
        reference = PCA(svd_solver="full").fit(values)
        assert np.allclose(reference.explained_variance_, variances, rtol=1e-9)
        assert np.allclose(np.abs((reference.components_ * axes).sum(1)), 1, atol=1e-9)
        bits = np.ascontiguousarray(rows).view(np.uint16).ravel()
        out.append(f"rows {name} {rows.shape[0]} {rows.shape[1]} {int(unit_length)} " + "".join(f"{b:04x}" for b in bits))
        for what, numbers in (("mean", values.mean(0)), ("covariance", covariance), ("variances", variances),
                              ("axes", axes)):
            out.append(f"{what} {name} " + " ".join(repr(float(v)) for v in numbers.ravel()))
    (HERE / "pca_golden.txt").write_text("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
