#include "stages/cluster/cluster_params.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace moextract::stages {
namespace {

using nlohmann::json;

// Keys of k-means alone; with an automatic k, also without `k`.
constexpr const char* kKMeansKeys[] = {
    "max_iterations", "tolerance",         "n_init",      "init",        "init_sample",
    "spherical",      "inertia_tolerance", "empty",       "init_rounds", "init_oversampling",
    "balance",        "agreement_seeds",   "quality_rows"};

void describe_kmeans(config::Section section, ClusterParams& all) {
  cluster::KMeansParams& p = all.kmeans;
  section
      .add("k", &p.k,
           "Clusters, hence experts, of each layer; assemble.one_cluster: what becomes of a layer with fewer than two")
      .at_least(1);
  section.add("max_iterations", &p.max_iterations, "Lloyd iterations at most").at_least(1);
  section
      .add("tolerance", &p.tolerance, "Stop when no centroid moved by more than this times the root mean square radius")
      .at_least(0);
  section.add("n_init", &p.n_init, "Independent starts; the one with the lowest inertia is kept").at_least(1);
  section.add_enum<cluster::KMeansInit>(
      "init", p.init,
      {{"parallel", cluster::KMeansInit::parallel, "k-means||: candidates from all rows, k-means++ among them"},
       {"plus_plus", cluster::KMeansInit::plus_plus, "k-means++ on a drawn sample"},
       {"random", cluster::KMeansInit::random, "drawn rows"},
       {"given", cluster::KMeansInit::given, "those of the file cluster.centroids"}},
      "How the first centroids are chosen");
  section.add("centroids", &all.centroids,
              "init: given: safetensors file with a tensor centroids.LAYER (F32, [k, width]) for each layer from 0 on");
  section.add("init_sample", &p.init_sample, "Rows drawn for the initialisation").at_least(1).in("rows");
  section.add("spherical", &p.spherical, "Cosine instead of Euclidean distance: rows are scaled to unit length");
  section
      .add("inertia_tolerance", &p.inertia_tolerance,
           "Stop when an iteration lowers the inertia by no more than this share; 0: never")
      .at_least(0);
  section.add_enum<cluster::EmptyClusters>(
      "empty", p.empty,
      {{"farthest", cluster::EmptyClusters::farthest, "it is given the row farthest from its centroid"},
       {"keep", cluster::EmptyClusters::keep, "its centroid stays"},
       {"refuse", cluster::EmptyClusters::refuse, "the run ends with an error"}},
      "What becomes of a cluster without rows");
  section
      .add("balance", &p.balance,
           "Balanced clusters: the largest may hold this share more than the mean, as in 0.1; 0: any sizes")
      .at_least(0);
  section.add("init_rounds", &p.init_rounds, "Rounds in which the parallel start draws candidates").at_least(1);
  section
      .add("init_oversampling", &p.init_oversampling,
           "Candidates that the parallel start draws in a round, as a multiple of k, on average")
      .at_least(0.01)
      .at_most(1000);
  section
      .add("bounds_bytes", &p.bounds_bytes,
           "Most memory for distance bounds, which spare work and change no result; 0: none")
      .at_least(0)
      .in("bytes")
      .runtime_only();
  section
      .add("rounded_bytes", &p.rounded_bytes,
           "Most memory for rows as k-means reads them, which spares converting them in each pass and changes no "
           "result; "
           "0: none")
      .at_least(0)
      .in("bytes")
      .runtime_only();
  section.add("seed", &p.seed, "Seed of the initialisation, and of every sample");
}

void describe_range(config::Section section, cluster::AutomaticKParams& p) {
  section.add("least", &p.least, "Smallest k tried").at_least(2);
  section.add("most", &p.most, "Largest k tried").at_least(2);
  section.add("step", &p.step, "Distance of the k tried").at_least(1);
  section.add("sample_rows", &p.sample_rows, "Rows of the silhouette and of the gap").at_least(2).in("rows");
  section.add("seeds", &p.seeds, "Stability: fits of each k that are compared").at_least(2);
  section.add("references", &p.references, "Gap: sets of uniform rows that are compared with").at_least(1);
}

void describe_hdbscan(config::Section section, ClusterParams& all) {
  using cluster::hdbscan::Metric;
  using cluster::hdbscan::NoisePolicy;
  using cluster::hdbscan::Selection;
  cluster::hdbscan::Params& p = all.hdbscan;
  section.add("min_cluster_size", &p.min_cluster_size, "Smallest group of sampled rows that is called a cluster")
      .at_least(2)
      .in("rows");
  section
      .add("min_samples", &p.min_samples,
           "Core distance: to this many-th nearest other row; larger calls more rows noise. 0: min_cluster_size")
      .at_least(0);
  section.add_enum<Selection>("selection", p.selection,
                              {{"eom", Selection::eom, "the most stable clusters of the tree (excess of mass)"},
                               {"leaf", Selection::leaf, "its leaves: more and smaller clusters"}},
                              "Which clusters of the condensed tree are taken");
  section
      .add("cluster_selection_epsilon", &p.cluster_selection_epsilon,
           "Clusters closer than this distance are not split")
      .at_least(0);
  section.add("alpha", &p.alpha, "Distances are divided by this; more is more cautious about merging").at_least(1e-6);
  section.add("allow_single_cluster", &p.allow_single_cluster, "Whether all rows may be one cluster");
  section.add("max_cluster_size", &p.max_cluster_size, "eom: larger clusters are split; 0: no limit")
      .at_least(0)
      .in("rows");
  section.add_enum<Metric>("metric", p.metric,
                           {{"euclidean", Metric::euclidean, "distance of the rows as they are"},
                            {"cosine", Metric::cosine, "distance of the rows at unit length"}},
                           "Distance between rows");
  section.add("pca_components", &p.pca_components, "Rows are first projected to this many principal components; 0: not")
      .at_least(0);
  section.add_enum<cluster::hdbscan::PcaRows>(
      "pca_rows", p.pca_rows,
      {{"all", cluster::hdbscan::PcaRows::all, "all rows of the layer, streamed twice"},
       {"sample", cluster::hdbscan::PcaRows::sample, "the sampled rows alone"}},
      "Rows whose second moments give the principal components");
  section.add("sample_rows", &p.sample_rows, "Rows drawn to fit on; the others are given the cluster they fall into")
      .at_least(1)
      .in("rows");
  section.add_enum<NoisePolicy>(
      "noise", p.noise,
      {{"nearest_centroid", NoisePolicy::nearest_centroid, "the cluster with the nearest mean"},
       {"dropped", NoisePolicy::dropped, "none (label -1): experts are cut without these rows"},
       {"own_cluster", NoisePolicy::own_cluster, "together one more cluster, hence one more expert"}},
      "What becomes of rows in no cluster");
  section
      .add("held_back_rows", &all.held_back_rows,
           "Sampled rows that a second fit is made without, to report how far predicting agrees with fitting; 0: none")
      .at_least(0)
      .in("rows");
}

}  // namespace

void describe(config::Section section, ClusterParams& p) {
  section.add_enum<ClusterTap>("tap", p.tap,
                               {{"h", ClusterTap::h, "hidden values after the GELU (MoEE)"},
                                {"x", ClusterTap::x, "input of the MLP"},
                                {"both", ClusterTap::both, "x and h side by side in one row"},
                                {"y", ClusterTap::y, "output of the MLP, computed from h, in float16"},
                                {"z", ClusterTap::z,
                                 "pre-activations of the MLP's neurons, each scaled to variance 1, computed from x: "
                                 "the router stays linear in x"}},
                               "Which activations are clustered");
  section.add_enum<ClusterMethod>(
      "method", p.method,
      {{"kmeans", ClusterMethod::kmeans, "k-means, k given or chosen (automatic_k)"},
       {"hdbscan", ClusterMethod::hdbscan, "HDBSCAN finds the number of clusters by itself (MoEE)"}},
      "How clusters are found");
  describe_kmeans(section, p);
  section.add_enum<AutomaticK>(
      "automatic_k", p.automatic_k,
      {{"none", AutomaticK::none, "k is given, the same in every layer"},
       {"silhouette", AutomaticK::silhouette, "the highest silhouette of a sample"},
       {"stability", AutomaticK::stability, "the highest agreement (ARI) between fits from different seeds"},
       {"gap", AutomaticK::gap, "the gap statistic on a sample"},
       {"hdbscan", AutomaticK::hdbscan, "as many as HDBSCAN finds by the settings of hdbscan; k_range is not read"}},
      "k-means: the criterion that chooses k for each layer, within k_range");
  describe_range(section.section("k_range", "The k that automatic_k tries"), p.k_range);
  describe_hdbscan(section.section("hdbscan", "HDBSCAN, where cluster.method or cluster.automatic_k is hdbscan"), p);
  section
      .add("quality_rows", &p.quality_rows,
           "Rows of the silhouette and Davies-Bouldin's index that are reported; work grows with the square. 0: none")
      .at_least(0)
      .in("rows");
  section
      .add("agreement_seeds", &p.agreement_seeds,
           "k-means: fits from so many further seeds, whose agreement (ARI) with the result is reported")
      .at_least(0);
  section.add("block_rows", &p.block_rows, "Rows read at once").at_least(1).in("rows").runtime_only();
  section
      .add("keep_bytes", &p.keep_bytes,
           "A layer's rows of this rank are read once and kept in memory if they are no larger; else they are read "
           "again in each pass")
      .at_least(0)
      .in("bytes")
      .runtime_only();
  section
      .add(
          "device_bytes", &p.device_bytes,
          "k-means where run.device is not cpu: a layer's rows of this rank stay in the device's memory if they are no "
          "larger; else they are sent again in each pass")
      .at_least(0)
      .in("bytes")
      .runtime_only();
  section
      .add("checkpoint_seconds", &p.checkpoint_seconds,
           "An unfinished layer is saved after an iteration if the last save is this long ago; 0: after every one")
      .at_least(0)
      .in("seconds")
      .runtime_only();
}

json settings_in_use(const ClusterParams& params, json section) {
  const bool by_hdbscan = params.method == ClusterMethod::kmeans && params.automatic_k == AutomaticK::hdbscan;
  if (params.method == ClusterMethod::hdbscan) {
    for (const char* key : kKMeansKeys) section.erase(key);
    for (const char* key : {"k", "automatic_k", "k_range"}) section.erase(key);
  } else {
    if (!by_hdbscan) section.erase("hdbscan");
    if (params.automatic_k == AutomaticK::none || by_hdbscan) section.erase("k_range");
    if (params.automatic_k != AutomaticK::none) section.erase("k");
    if (params.kmeans.init != cluster::KMeansInit::parallel) section.erase("init_rounds");
    if (params.kmeans.init == cluster::KMeansInit::given) {
      for (const char* key : {"n_init", "init_sample"}) section.erase(key);
    }
    // The setting came later: what is as it was before keeps its address.
    if (params.kmeans.init != cluster::KMeansInit::parallel ||
        params.kmeans.init_oversampling == cluster::KMeansParams{}.init_oversampling)
      section.erase("init_oversampling");
    if (section.contains("k_range")) {
      if (params.automatic_k != AutomaticK::gap) section["k_range"].erase("references");
      if (params.automatic_k != AutomaticK::stability) section["k_range"].erase("seeds");
      if (params.automatic_k == AutomaticK::stability) section["k_range"].erase("sample_rows");
    }
  }
  if (by_hdbscan) {  // of its clusters the number alone is used
    for (const char* key : {"noise", "held_back_rows"}) section["hdbscan"].erase(key);
  }
  // The setting came later: what is as it was before keeps its address.
  if (section.contains("hdbscan") &&
      (params.hdbscan.pca_components == 0 || params.hdbscan.pca_rows == cluster::hdbscan::PcaRows::sample))
    section["hdbscan"].erase("pca_rows");
  return section;
}

std::string method_text(const ClusterParams& params) {
  if (params.method == ClusterMethod::hdbscan) {
    return fmt::format("HDBSCAN on {} rows", params.hdbscan.sample_rows);
  }
  const char* criterion = nullptr;
  switch (params.automatic_k) {
    case AutomaticK::none:
      return fmt::format("k-means, k = {}", params.kmeans.k);
    case AutomaticK::silhouette:
      criterion = "silhouette";
      break;
    case AutomaticK::stability:
      criterion = "stability";
      break;
    case AutomaticK::gap:
      criterion = "gap";
      break;
    case AutomaticK::hdbscan:
      return fmt::format("k-means, k by HDBSCAN on {} rows", params.hdbscan.sample_rows);
  }
  return fmt::format("k-means, k by {} from {} to {}", criterion, params.k_range.least, params.k_range.most);
}

bool starts_from_file(const ClusterParams& params) {
  return params.method == ClusterMethod::kmeans && params.kmeans.init == cluster::KMeansInit::given;
}

std::int64_t most_clusters(const ClusterParams& params) {
  if (params.method == ClusterMethod::hdbscan || params.automatic_k == AutomaticK::hdbscan) return 0;
  return params.automatic_k == AutomaticK::none ? params.kmeans.k : params.k_range.most;
}

}  // namespace moextract::stages
