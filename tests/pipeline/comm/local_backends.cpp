// The back ends that need no launcher.
#include "comm/backends.h"
#include "tests/pipeline/comm/backend.h"

namespace moextract::comm {

std::vector<Backend> backends() {
  std::vector<Backend> all;
  all.push_back({"self", 1, [](const Body& body) { body(*make_self()); }});
  for (const int ranks : {1, 2, 3, 4, 7}) {
    all.push_back({"threads", ranks, [ranks](const Body& body) { run_threads(ranks, body); }});
  }
  return all;
}

}  // namespace moextract::comm
