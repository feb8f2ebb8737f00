// Tables: rows of results, the front against a plain definition, spreads by hand.
#include "sweep/table.h"

#include <nlohmann/json.hpp>

#include "core/random.h"
#include "sample.h"
#include "sweep/page.h"

namespace moextract::sweep {
namespace {

using nlohmann::json;

PlannedRun run_of(const std::string& id, const std::string& k, const std::string& seed) {
  PlannedRun run;
  run.id = id;
  run.varied = {{"cluster.k", k}, {"cluster.seed", seed}};
  return run;
}

json variant(const std::string& name, const std::string& method, int right, double macs, double speed) {
  return {{"name", name},
          {"method", method},
          {"images", 1000},
          {"top1_correct", right},
          {"macs_per_image", macs},
          {"parameters", 5000},
          {"images_per_second", speed},
          {"finetuned", name.ends_with("-finetuned")}};
}

json results_of(int right, double macs) {
  return {{"format", "moextract-results"},
          {"format_version", 1},
          {"variants",
           {variant("dense", "dense", 700, 2e6, 50), variant("vbp", "vbp", 300, 1e6, 90),
            variant("experts", "moee", right, macs, 80),
            variant("experts-finetuned", "moee", right + 100, macs + 10, 79)}}};
}

Row point(double top1, double macs) {
  Row row;
  row.top1 = top1;
  row.macs = macs;
  return row;
}

TEST(Table, ARunHasARowForEachMethod) {
  const std::vector<Row> rows = rows_of(run_of("run-1", "8", "1"), results_of(500, 1.5e6));
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].method, "vbp");
  EXPECT_EQ(rows[1].method, "experts");
  EXPECT_EQ(rows[1].top1, 0.5);
  EXPECT_EQ(rows[1].top1_tuned, 0.6);
  EXPECT_EQ(rows[1].dense_top1, 0.7);
  EXPECT_EQ(rows[1].macs, 1.5e6);
  EXPECT_EQ(rows[1].macs_tuned, 1.5e6 + 10);
  EXPECT_EQ(rows[1].final_macs(), 1.5e6 + 10);
  EXPECT_EQ(rows[0].final_top1(), 0.3) << "not fine-tuned";
  EXPECT_EQ(rows[1].speed_tuned, 79);
}

TEST(Table, TheFrontIsWhatNothingDominates) {
  RandomStream random(5, 1);
  std::vector<Row> rows;
  for (int i = 0; i < 300; ++i)
    rows.push_back(point(static_cast<double>(random.below(40)), static_cast<double>(random.below(40))));
  rows.push_back({});  // unknown
  mark_pareto(rows);
  for (std::size_t i = 0; i + 1 < rows.size(); ++i) {
    bool dominated = false;
    for (std::size_t j = 0; j + 1 < rows.size(); ++j) {
      dominated = dominated || (*rows[j].top1 >= *rows[i].top1 && *rows[j].macs <= *rows[i].macs &&
                                (*rows[j].top1 > *rows[i].top1 || *rows[j].macs < *rows[i].macs));
    }
    EXPECT_EQ(rows[i].pareto, !dominated) << *rows[i].top1 << " at " << *rows[i].macs;
  }
  EXPECT_FALSE(rows.back().pareto);
}

TEST(Table, TheBestOfAColumn) {
  std::vector<Row> rows{point(0.5, 10), point(0.7, 30), point(0.7, 5)};
  const std::vector<std::size_t> best = best_rows(rows);
  EXPECT_EQ(best[0], 1u) << "top-1: the larger, the first of equals";
  EXPECT_EQ(best[2], 2u) << "MACs: the smaller";
  EXPECT_EQ(best[1], SIZE_MAX) << "nothing was fine-tuned";
}

TEST(Table, SpreadOverSeeds) {
  std::vector<Row> rows;
  for (const auto& [k, seed, right] : std::vector<std::tuple<std::string, std::string, int>>{
           {"8", "1", 500}, {"8", "2", 520}, {"8", "3", 600}, {"16", "1", 100}}) {
    for (Row& row : rows_of(run_of("run-" + k + seed, k, seed), results_of(right, 1e6))) rows.push_back(row);
  }
  EXPECT_TRUE(spread_over_seeds(rows, {}).empty());
  const std::vector<SeedGroup> groups = spread_over_seeds(rows, {"cluster.seed"});
  ASSERT_EQ(groups.size(), 4u);
  EXPECT_EQ(groups[1].method, "experts");
  EXPECT_EQ(groups[1].settings, (Settings{{"cluster.k", "8"}}));
  const SeedGroup::Spread& top1 = groups[1].spreads[0];
  EXPECT_EQ(top1.count, 3u);
  EXPECT_DOUBLE_EQ(*top1.mean, 0.54);
  // (-0.04)^2 + (-0.02)^2 + 0.06^2 = 0.0056, divided by 2: 0.0028
  EXPECT_NEAR(*top1.deviation, 0.0529150262212918, 1e-12);
  EXPECT_EQ(top1.low, 0.5);
  EXPECT_EQ(top1.high, 0.6);
  EXPECT_EQ(groups[3].spreads[0].count, 1u);
  EXPECT_FALSE(groups[3].spreads[0].deviation);
}

TEST(Table, CsvHasALineARowAndQuotesWhatNeedsIt) {
  PlannedRun run = run_of("run-1", "a,\"b\"", "1");
  std::vector<Row> rows = rows_of(run, results_of(500, 1.5e6));
  mark_pareto(rows);
  const std::string csv = rows_csv(rows, {"cluster.k", "cluster.seed"});
  EXPECT_TRUE(csv.starts_with("run,method,cluster.k,cluster.seed,dense_top1,top1,top1_finetuned,macs_per_image,"));
  EXPECT_TRUE(contains(csv, "\nrun-1,experts,\"a,\"\"b\"\"\",1,0.7,0.5,0.6,1500000,1500010,5000,80,79,")) << csv;
  EXPECT_TRUE(contains(csv, "\nrun-1,vbp,\"a,\"\"b\"\"\",1,0.7,0.3,,1000000,,5000,90,,")) << csv;
  const std::string groups = groups_csv(spread_over_seeds(rows, {"cluster.seed"}));
  EXPECT_TRUE(groups.starts_with("method,cluster.k,top1_n,top1_mean,top1_sd,")) << groups;
}

TEST(Page, NeedsNothingBesideItAndShowsAll) {
  Plan plan;
  plan.file.name = "a <b>";
  plan.file.seeds = {"cluster.seed"};
  plan.varied = {"cluster.k", "cluster.seed"};
  SweepStatus status;
  SweepResults results{plan, status, {}, {}};
  for (const std::string seed : {"1", "2"}) {
    plan.runs.push_back(run_of("run-" + seed, "8", seed));
    status.runs.push_back({RunState::done, ""});
    for (Row& row : rows_of(plan.runs.back(), results_of(500 + std::stoi(seed), 1.5e6))) results.rows.push_back(row);
  }
  plan.runs.push_back(run_of("run-3", "8", "3"));
  status.runs.push_back({RunState::failed, "NaN & more"});
  mark_pareto(results.rows);
  results.groups = spread_over_seeds(results.rows, plan.file.seeds);
  const std::string page = render_page(results);
  EXPECT_TRUE(contains(page, "a &lt;b&gt;"));
  EXPECT_TRUE(contains(page, "2 of 3 runs are done"));
  EXPECT_TRUE(contains(page, "NaN &amp; more"));
  EXPECT_TRUE(contains(page, "<b>60.20</b>")) << "the best fine-tuned top-1 is bold";
  EXPECT_TRUE(contains(page, "Mean and spread over seeds"));
  for (const char* outside : {"http://", "https://", "<link", " src="})
    EXPECT_FALSE(contains(page, outside)) << outside;
  const std::string text = render_text(results);
  EXPECT_TRUE(contains(text, "60.20  experts  cluster.k=8, cluster.seed=2")) << text;
  EXPECT_TRUE(contains(text, "Pareto front"));
}

}  // namespace
}  // namespace moextract::sweep
