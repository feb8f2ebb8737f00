#include "stages/cluster/layer_fit.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <utility>

#include "cluster/agreement.h"
#include "cluster/label_means.h"
#include "cluster/quality.h"
#include "core/error.h"
#include "stages/cluster/device_passes.h"
#include "stages/cluster/given_centroids.h"
#include "stages/cluster/layer_state.h"
#include "stages/cluster/tried_state.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

json number_or_null(double value) {
  return std::isfinite(value) ? json(value) : json();
}

cluster::hdbscan::Params hdbscan_settings(const ClusterParams& params, const ShardRowSource& source) {
  cluster::hdbscan::Params settings = params.hdbscan;
  settings.seed = params.kmeans.seed;
  if (source.dimension() <= settings.pca_components) settings.pca_components = 0;  // nothing would be left out
  return settings;
}

/// Names the artefact and the layer that a state belongs to.
std::string state_key(const LayerPlace& place) {
  return fmt::format("{}/{}", place.folder.filename().string(), place.layer);
}

/// Saves where the k-means of a layer stands, not too often. Used on rank 0.
class LayerKeeper {
 public:
  LayerKeeper(const LayerPlace& place, std::int64_t k, std::int64_t seconds)
      : path_(layer_state_path(place.folder, place.layer)),
        key_(state_key(place)),
        k_(k),
        interval_(std::chrono::seconds(seconds)),
        last_(Clock::now()) {}

  /// Nothing if there is no state, or none that can be used: then the layer begins anew.
  std::optional<cluster::KMeansState> load(spdlog::logger& log) const {
    try {
      return load_layer_state(path_, key_);
    } catch (const UserError& error) {
      log.warn("{}; the layer is begun anew", error.what());
      return std::nullopt;
    }
  }
  void keep(const cluster::KMeansState& state, bool stopping) {
    if (!stopping && Clock::now() - last_ < interval_) return;
    save_layer_state(path_, key_, state, k_);
    last_ = Clock::now();
  }

 private:
  using Clock = std::chrono::steady_clock;
  fs::path path_;
  std::string key_;
  std::int64_t k_;
  Clock::duration interval_;
  Clock::time_point last_;
};

class KMeansLayer {
 public:
  KMeansLayer(const ClusterParams& params, const ShardRowSource& source, const LayerPlace& place, run::Context& context)
      : params_(params),
        source_(source),
        place_(place),
        context_(context),
        passes_(passes_on(context.device, params.device_bytes)) {}

  LayerFit run() {
    LayerFit made;
    cluster::KMeansParams kmeans = params_.kmeans;
    try {
      if (params_.automatic_k != AutomaticK::none) kmeans.k = choose(made.summary);
      context_.comm.together([&] {
        if (starts_from_file(params_))
          kmeans.initial = load_given_centroids(params_.centroids, place_.layer, kmeans.k, source_.dimension());
      });
      keeps_state_ = true;
      cluster::KMeansFit fitted = fit(kmeans);
      keeps_state_ = false;
      finish(kmeans, std::move(fitted), made);
    } catch (const cluster::KMeansStopped& stopped) {
      if (!keeps_state_) {  // a k that was tried, or a fit to compare with
        fail(ExitCode::resume,
             "clustering was asked to stop; {} of {} layers are saved, and of the next one what was finished. Run the "
             "same command again to go on",
             place_.layer, place_.layers);
      }
      fail(ExitCode::resume,
           "clustering was asked to stop; {} of {} layers are saved, and of the next one {} iterations of start {} of "
           "{}. Run the same command again to go on",
           place_.layer, place_.layers, stopped.iteration(), stopped.start() + 1, params_.kmeans.n_init);
    }
    return made;
  }

 private:
  std::int64_t choose(json& summary) {
    if (params_.automatic_k == AutomaticK::hdbscan) return count_by_hdbscan(summary);
    cluster::AutomaticKParams range = params_.k_range;
    const char* criterion = "silhouette";
    range.criterion = cluster::ChooseK::silhouette;
    if (params_.automatic_k == AutomaticK::stability) {
      range.criterion = cluster::ChooseK::stability;
      criterion = "stability";
    } else if (params_.automatic_k == AutomaticK::gap) {
      range.criterion = cluster::ChooseK::gap;
      criterion = "gap";
    }
    TriedState state(tried_state_path(place_.folder, place_.layer), state_key(place_));
    const std::vector<cluster::TriedK> before = state.load(context_);
    const std::vector<cluster::TriedK> tried =
        cluster::try_k(source_, params_.kmeans, range, context_.comm, context_.workers,
                       {.before = before,
                        .on_tried = [&](const cluster::TriedK& one) { state.add(one); },
                        .should_stop = context_.should_stop,
                        .make_pass = passes_});
    const bool ends_early = tried.back().k + range.step <= range.most || tried.front().k < range.least;
    if (ends_early && context_.comm.is_root()) {
      context_.log->warn(
          "cluster: layer {}: cluster.k_range ends at {} instead of {}: there are no more different rows{}",
          place_.layer, tried.back().k, range.most,
          range.criterion == cluster::ChooseK::gap ? " in the sample or the sets that it is compared with" : "");
    }
    const std::int64_t k = cluster::choose_k(range.criterion, tried);
    json list = json::array();
    for (const cluster::TriedK& one : tried) {
      list.push_back({{"k", one.k}, {"score", one.score}, {"error", one.error}, {"inertia", one.inertia}});
    }
    summary["automatic_k"] = {{"criterion", criterion}, {"tried", std::move(list)}};
    context_.log->info("cluster: layer {}: k = {} by {} among {} tried", place_.layer, k, criterion, tried.size());
    return k;
  }

  /// What the paper's clusters owe to their number alone: k-means with HDBSCAN's k.
  std::int64_t count_by_hdbscan(json& summary) {
    const cluster::hdbscan::Model model =
        cluster::hdbscan::fit(source_, hdbscan_settings(params_, source_), context_.comm, context_.workers,
                              {.should_stop = context_.should_stop})
            .model;
    const std::int64_t k = std::max<std::int64_t>(model.k(), 1);
    summary["automatic_k"] = {{"criterion", "hdbscan"}, {"tried", json::array()}, {"sampled_rows", model.rows()}};
    context_.log->info("cluster: layer {}: k = {}, as HDBSCAN finds in {} rows", place_.layer, k, model.rows());
    return k;
  }

  cluster::KMeansFit fit(const cluster::KMeansParams& kmeans) {
    LayerKeeper keeper(place_, kmeans.k, params_.checkpoint_seconds);
    std::optional<cluster::KMeansState> state;
    context_.comm.together([&] {
      if (context_.comm.is_root()) state = keeper.load(*context_.log);
    });
    share_layer_state(state, context_.comm);
    if (state) {
      context_.log->info("cluster: layer {}: goes on from iteration {} of start {}", place_.layer, state->iteration,
                         state->start + 1);
    }
    const cluster::KMeansHooks hooks{
        .on_state = [&](const cluster::KMeansState& now, bool stopping) { keeper.keep(now, stopping); },
        .should_stop = context_.should_stop,
        .make_pass = passes_,
        .resume_from = state ? &*state : nullptr};
    return cluster::fit(source_, kmeans, context_.comm, context_.workers, hooks);
  }

  void finish(const cluster::KMeansParams& kmeans, cluster::KMeansFit fit, LayerFit& made) {
    json history = json::array();
    for (const cluster::KMeansIteration& it : fit.model.history) history.push_back(it.inertia);
    made.summary.update({{"method", "kmeans"},
                         {"inertia", fit.model.inertia},
                         {"iterations", fit.model.history.size()},
                         {"converged", fit.model.converged},
                         {"empty_refilled", fit.model.empty_refilled},
                         {"sizes", fit.model.sizes},
                         {"history", std::move(history)}});
    if (kmeans.balance > 0) made.summary["balanced"] = fit.model.balanced;
    if (!fit.model.balanced && context_.comm.is_root()) {
      context_.log->warn(
          "cluster: layer {}: the largest cluster has {} rows, more than cluster.balance allows: equal rows cannot be "
          "parted, or prices have found no better",
          place_.layer, *std::max_element(fit.model.sizes.begin(), fit.model.sizes.end()));
    }
    if (params_.quality_rows > 0) {
      const cluster::ClusterQuality quality = cluster::measure_quality(
          fit.model, source_, kmeans.spherical, params_.quality_rows, kmeans.seed, context_.comm, context_.workers);
      made.summary["quality"] = {{"rows", quality.sampled},
                                 {"silhouette", number_or_null(quality.silhouette)},
                                 {"davies_bouldin", number_or_null(quality.davies_bouldin)}};
    }
    if (params_.agreement_seeds > 0) {
      std::vector<double> each;
      for (std::int64_t s = 1; s <= params_.agreement_seeds; ++s) {
        cluster::KMeansParams other = kmeans;
        other.seed = kmeans.seed + static_cast<std::uint64_t>(s);
        const cluster::KMeansFit again =
            cluster::fit(source_, other, context_.comm, context_.workers,
                         cluster::KMeansHooks{.should_stop = context_.should_stop, .make_pass = passes_});
        each.push_back(cluster::adjusted_rand_index(fit.labels, again.labels, context_.comm));
      }
      double mean = 0;
      for (const double one : each) mean += one / static_cast<double>(each.size());
      made.summary["seed_agreement"] = {{"mean", mean}, {"each", each}};
    }
    made.k = fit.model.k;
    made.dimension = fit.model.dimension;
    made.centroids = std::move(fit.model.centroids);
    made.sizes = std::move(fit.model.sizes);
    made.prices = std::move(fit.model.prices);
    made.labels = std::move(fit.labels);
    made.history = std::move(fit.model.history);
  }

  const ClusterParams& params_;
  const ShardRowSource& source_;
  const LayerPlace& place_;
  run::Context& context_;
  cluster::MakePass passes_;
  bool keeps_state_ = false;  // the fit under way is saved when it is asked to stop
};

const char* name_of(cluster::hdbscan::NoisePolicy policy) {
  switch (policy) {
    case cluster::hdbscan::NoisePolicy::dropped:
      return "dropped";
    case cluster::hdbscan::NoisePolicy::own_cluster:
      return "own_cluster";
    case cluster::hdbscan::NoisePolicy::nearest_centroid:
      break;
  }
  return "nearest_centroid";
}

/// The condensed tree's clusters, as the report draws them.
json drawn_tree(const cluster::hdbscan::Model& model) {
  json tree = json::array();
  if (model.condensed.empty()) return tree;
  const std::int64_t n = model.rows();
  std::vector<json> label(model.clusters.largest_lambda.size());
  for (std::size_t c = 0; c < model.clusters.nodes.size(); ++c)
    label[static_cast<std::size_t>(model.clusters.nodes[c] - n)] = c;
  const auto add = [&](std::int64_t id, json parent, double birth, std::int64_t size) {
    const auto at = static_cast<std::size_t>(id - n);
    tree.push_back({{"id", at},
                    {"parent", std::move(parent)},
                    {"birth", number_or_null(birth)},
                    {"death", number_or_null(model.clusters.largest_lambda[at])},
                    {"size", size},
                    {"label", label[at]}});
  };
  add(n, json(), 0, n);
  for (const cluster::hdbscan::CondensedEdge& edge : model.condensed) {
    if (edge.child >= n) add(edge.child, edge.parent - n, edge.lambda, edge.size);
  }
  return tree;
}

LayerFit fit_hdbscan(const ClusterParams& params, const ShardRowSource& source, const LayerPlace& place,
                     run::Context& context) {
  const cluster::hdbscan::Params settings = hdbscan_settings(params, source);
  const cluster::hdbscan::Hooks hooks{.should_stop = context.should_stop};
  cluster::hdbscan::Fit fit = cluster::hdbscan::fit(source, settings, context.comm, context.workers, hooks);
  const cluster::hdbscan::Model& model = fit.model;
  const std::int64_t noise = context.comm.all_reduce_value(fit.rows.noise, comm::Reduction::sum);

  LayerFit made;
  made.k = model.labels();
  made.labels = std::move(fit.rows.labels);
  if (model.k() < 2) {
    // Fewer than two clusters: the layer is one, and no row of it noise.
    made.k = 1;
    std::fill(made.labels.begin(), made.labels.end(), 0);
  }
  made.dimension = model.input_dimension;
  cluster::LabelMeans means = cluster::label_means(
      source, made.labels, made.k, settings.metric == cluster::hdbscan::Metric::cosine, context.comm, context.workers);
  made.centroids = std::move(means.centroids);
  made.sizes = std::move(means.sizes);
  for (const double probability : fit.rows.probabilities) made.probabilities.push_back(static_cast<float>(probability));
  made.summary = {{"method", "hdbscan"},
                  {"clusters_found", model.k()},
                  {"sampled_rows", model.rows()},
                  {"noise_rows", noise},
                  {"noise", name_of(settings.noise)},
                  {"pca_components", settings.pca_components},
                  {"inertia", means.inertia},
                  {"sizes", made.sizes},
                  {"tree", drawn_tree(model)}};
  if (settings.pca_components > 0 && settings.pca_rows == cluster::hdbscan::PcaRows::all)
    made.summary["pca_rows"] = model.rows_in_set;
  if (settings.pca_components > 0 && model.pca.total_variance > 0) {
    double kept = 0;
    for (const double variance : model.pca.variances) kept += variance;
    made.summary["pca_variance_share"] = kept / model.pca.total_variance;
  }
  const std::int64_t held_back = std::min(params.held_back_rows, model.rows() / 2);
  if (held_back > 0) {
    const cluster::hdbscan::Agreement agreement =
        cluster::hdbscan::held_back_agreement(model, held_back, context.comm, context.workers, hooks);
    made.summary["held_back"] = {
        {"rows", agreement.held_back}, {"ari", agreement.ari}, {"same_noise", agreement.same_noise}};
  }
  context.log->info("cluster: layer {}: HDBSCAN found {} clusters in {} of {} rows, {:.1f} % of all rows are noise",
                    place.layer, model.k(), model.rows(), model.rows_in_set,
                    100.0 * static_cast<double>(noise) / static_cast<double>(model.rows_in_set));
  made.tree = std::move(fit.model);
  return made;
}

}  // namespace

LayerFit fit_layer(const ClusterParams& params, const ShardRowSource& source, const LayerPlace& place,
                   run::Context& context) {
  LayerFit made;
  try {
    made = params.method == ClusterMethod::hdbscan ? fit_hdbscan(params, source, place, context)
                                                   : KMeansLayer(params, source, place, context).run();
  } catch (const cluster::hdbscan::Stopped&) {
    fail(ExitCode::resume,
         "clustering was asked to stop; {} of {} layers are saved, and HDBSCAN begins the next one anew. Run the same "
         "command again to go on",
         place.layer, place.layers);
  }
  const std::int64_t rows = context.comm.all_reduce_value(source.local_rows(), comm::Reduction::sum);
  made.summary.update({{"layer", place.layer}, {"tap", tap_name(params.tap)}, {"k", made.k}, {"rows", rows}});
  return made;
}

void forget_layer(const LayerPlace& place) {
  for (const fs::path& path :
       {layer_state_path(place.folder, place.layer), tried_state_path(place.folder, place.layer)}) {
    std::error_code error;
    fs::remove(path, error);
    if (error) fail(ExitCode::storage, "{}: cannot be removed ({})", path.string(), error.message());
  }
}

}  // namespace moextract::stages
