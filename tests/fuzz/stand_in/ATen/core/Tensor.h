// Stands in for LibTorch's header: the fuzz targets are built without it, and no tensor is made in them.
#pragma once

namespace at {
class Tensor;
}
