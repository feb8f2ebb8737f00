// Without NCCL no rank uses a GPU.
#include "app/gpu_facts.h"

namespace moextract::app {

std::string nccl_text() {
  return MOEXTRACT_NCCL;
}

std::string gpu_text(int, int) {
  return "none";
}

}  // namespace moextract::app
