#include "stages/cluster/layer_state.h"

#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>
#include <vector>

#include "core/error.h"
#include "store/safetensors.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using cluster::KMeansIteration;
using cluster::KMeansState;
using nlohmann::json;
namespace {

constexpr const char* kStateKey = "moextract.kmeans_state";
constexpr std::int64_t kVersion = 2;

/// A history as the columns of two tables.
struct HistoryColumns {
  std::vector<std::int64_t> counts;  ///< [iterations, 4]: iteration, moved, smallest, largest
  std::vector<double> values;        ///< [iterations, 3]: inertia, shift, seconds
};

HistoryColumns columns_of(const std::vector<KMeansIteration>& history) {
  HistoryColumns columns;
  for (const KMeansIteration& it : history) {
    columns.counts.insert(columns.counts.end(), {it.iteration, it.moved, it.smallest, it.largest});
    columns.values.insert(columns.values.end(), {it.inertia, it.shift, it.seconds});
  }
  return columns;
}

std::vector<KMeansIteration> history_of(const HistoryColumns& columns) {
  std::vector<KMeansIteration> history(columns.counts.size() / 4);
  for (std::size_t i = 0; i < history.size(); ++i) {
    const std::int64_t* count = columns.counts.data() + 4 * i;
    const double* value = columns.values.data() + 3 * i;
    history[i] = {.iteration = count[0],
                  .inertia = value[0],
                  .shift = value[1],
                  .moved = count[1],
                  .smallest = count[2],
                  .largest = count[3],
                  .seconds = value[2]};
  }
  return history;
}

template <class T>
store::TensorView view_of(const std::vector<T>& values, std::vector<std::int64_t> shape, store::TensorType type) {
  store::TensorView view;
  view.type = type;
  view.shape = std::move(shape);
  view.data = std::as_bytes(std::span(values));
  return view;
}

template <class T>
std::vector<T> values_of(const store::SafetensorsFile& file, const std::string& name, store::TensorType type) {
  const store::TensorView& view = file.tensors().at(name);
  if (view.type != type) throw std::invalid_argument(name + " is of another type");
  std::vector<T> values(view.data.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), view.data.data(), view.data.size());
  return values;
}

HistoryColumns read_columns(const store::SafetensorsFile& file, const std::string& prefix) {
  HistoryColumns columns{values_of<std::int64_t>(file, prefix + "counts", store::TensorType::i64),
                         values_of<double>(file, prefix + "values", store::TensorType::f64)};
  if (columns.counts.size() % 4 != 0 || columns.values.size() != columns.counts.size() / 4 * 3)
    throw std::invalid_argument("its history is incomplete");
  return columns;
}

/// Collective. Rank 0's vector on every rank.
template <class T>
void broadcast_vector(std::vector<T>& values, comm::Communicator& comm) {
  auto length = static_cast<std::int64_t>(values.size());
  comm.broadcast(std::span<std::int64_t>(&length, 1));
  values.resize(static_cast<std::size_t>(length));
  comm.broadcast(std::span<T>(values));
}

void broadcast_history(std::vector<KMeansIteration>& history, comm::Communicator& comm) {
  HistoryColumns columns = columns_of(history);
  broadcast_vector(columns.counts, comm);
  broadcast_vector(columns.values, comm);
  history = history_of(columns);
}

}  // namespace

fs::path layer_state_path(const fs::path& folder, std::int64_t layer) {
  return folder / fmt::format("layer-{:03}.state.safetensors", layer);
}

void save_layer_state(const fs::path& path, const std::string& key, const KMeansState& state, std::int64_t k) {
  const HistoryColumns now = columns_of(state.history), best = columns_of(state.best_history);
  const auto iterations = static_cast<std::int64_t>(state.history.size()),
             best_iterations = static_cast<std::int64_t>(state.best_history.size());
  std::map<std::string, store::TensorView> tensors{
      {"history.counts", view_of(now.counts, {iterations, 4}, store::TensorType::i64)},
      {"history.values", view_of(now.values, {iterations, 3}, store::TensorType::f64)},
      {"best.history.counts", view_of(best.counts, {best_iterations, 4}, store::TensorType::i64)},
      {"best.history.values", view_of(best.values, {best_iterations, 3}, store::TensorType::f64)}};
  const std::pair<const char*, const std::vector<float>*> centroids[] = {
      {"centroids", &state.centroids}, {"previous", &state.previous}, {"best", &state.best}};
  for (const auto& [name, values] : centroids) {
    const auto rows = values->empty() ? 0 : k;
    const std::int64_t width = static_cast<std::int64_t>(state.centroids.size()) / k;
    tensors.emplace(name, view_of(*values, {rows, width}, store::TensorType::f32));
  }
  tensors.emplace("balancer",
                  view_of(state.balancer, {static_cast<std::int64_t>(state.balancer.size())}, store::TensorType::f64));
  tensors.emplace("best.prices", view_of(state.best_prices, {static_cast<std::int64_t>(state.best_prices.size())},
                                         store::TensorType::f64));
  const json facts{{"version", kVersion},
                   {"key", key},
                   {"start", state.start},
                   {"iteration", state.iteration},
                   {"empty_refilled", state.empty_refilled},
                   {"converged", state.converged},
                   {"best_converged", state.best_converged},
                   {"best_refilled", state.best_refilled}};
  store::write_safetensors(path, tensors, {{kStateKey, facts.dump()}});
}

std::optional<KMeansState> load_layer_state(const fs::path& path, const std::string& key) {
  if (!fs::exists(path)) return std::nullopt;
  KMeansState state;
  std::string its_key;
  try {
    const store::SafetensorsFile file(path);
    const json facts = json::parse(file.metadata().at(kStateKey));
    if (facts.at("version") != kVersion) throw std::invalid_argument("its format is of another version");
    its_key = facts.at("key");
    state.start = facts.at("start");
    state.iteration = facts.at("iteration");
    state.empty_refilled = facts.at("empty_refilled");
    state.converged = facts.at("converged");
    state.best_converged = facts.at("best_converged");
    state.best_refilled = facts.at("best_refilled");
    state.centroids = values_of<float>(file, "centroids", store::TensorType::f32);
    state.previous = values_of<float>(file, "previous", store::TensorType::f32);
    state.best = values_of<float>(file, "best", store::TensorType::f32);
    state.balancer = values_of<double>(file, "balancer", store::TensorType::f64);
    state.best_prices = values_of<double>(file, "best.prices", store::TensorType::f64);
    state.history = history_of(read_columns(file, "history."));
    state.best_history = history_of(read_columns(file, "best.history."));
  } catch (const std::exception& error) {
    fail(ExitCode::input, "{}: is no state of k-means, or damaged ({})", path.string(), error.what());
  }
  if (its_key != key) fail(ExitCode::input, "{}: is of another artefact or layer", path.string());
  return state;
}

void share_layer_state(std::optional<KMeansState>& state, comm::Communicator& comm) {
  std::vector<std::int64_t> numbers;
  if (comm.is_root() && state) {
    numbers = {state->start,     state->iteration,      state->empty_refilled,
               state->converged, state->best_converged, state->best_refilled};
  }
  broadcast_vector(numbers, comm);
  if (numbers.empty()) {
    state.reset();
    return;
  }
  if (!comm.is_root()) state.emplace();
  state->start = numbers[0];
  state->iteration = numbers[1];
  state->empty_refilled = numbers[2];
  state->converged = numbers[3] != 0;
  state->best_converged = numbers[4] != 0;
  state->best_refilled = numbers[5];
  broadcast_vector(state->centroids, comm);
  broadcast_vector(state->previous, comm);
  broadcast_vector(state->best, comm);
  broadcast_vector(state->balancer, comm);
  broadcast_vector(state->best_prices, comm);
  broadcast_history(state->history, comm);
  broadcast_history(state->best_history, comm);
}

}  // namespace moextract::stages
