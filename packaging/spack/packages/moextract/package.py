"""Spack's recipe of moextract, for a checkout: spack repo add packaging/spack, then spack dev-build moextract@main."""

from spack.package import *


class Moextract(CMakePackage):
    """Turns trained Vision Transformers into mixtures of experts, distributed by MPI."""

    # There is nothing to fetch: the recipe travels with the sources and is built by dev-build or develop.
    license("Apache-2.0")

    version("main")

    variant("cuda", default=False, description="CUDA and NCCL; with them py-torch+cuda is needed")

    generator("ninja")
    depends_on("c", type="build")
    depends_on("cxx", type="build")
    depends_on("cmake@3.25:", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("python", type="build")
    depends_on("mpi")
    depends_on("hdf5@1.10:~mpi")
    depends_on("yaml-cpp@0.7:")
    depends_on("cli11@2:")
    depends_on("spdlog@1.10: +fmt_external")
    depends_on("fmt@9:")
    depends_on("nlohmann-json@3.11:")
    depends_on("libjpeg-turbo")
    depends_on("libpng")
    depends_on("zlib-api")
    depends_on("xxhash")
    depends_on("py-torch@2.11:~cuda", when="~cuda")
    depends_on("py-torch@2.11:+cuda+nccl", when="+cuda")
    depends_on("cuda", when="+cuda")
    depends_on("nccl", when="+cuda")

    def cmake_args(self):
        # cmake/FindLibTorch.cmake takes the folder that holds include/ and lib/.
        packages = self.spec["python"].package.platlib
        return [
            self.define("LIBTORCH_ROOT", join_path(self.spec["py-torch"].prefix, packages, "torch")),
            self.define("MOEXTRACT_BUILD_TESTS", False),
            self.define("MOEXTRACT_WITH_CUDA", "ON" if self.spec.satisfies("+cuda") else "OFF"),
            self.define("MOEXTRACT_WITH_NCCL", "ON" if self.spec.satisfies("+cuda") else "OFF"),
        ]
