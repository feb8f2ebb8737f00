#include "stages/run_config.h"

#include <array>

#include "config/reader.h"
#include "core/error.h"

namespace moextract::stages {
namespace {

void describe(config::Section section, RunParams& p) {
  section.add("name", &p.name, "Name of the run, for people").runtime_only();
  section
      .add("folder", &p.folder,
           "Folder of the run's record and report; empty: runs/<name>, with the settings given by --set")
      .runtime_only()
      .output();
  section.add("store", &p.store, "Folder of the artefacts, shared by all runs that name it").runtime_only().output();
  section.add("threads", &p.threads, "Threads of each rank; 0: the node's cores divided by its ranks")
      .at_least(0)
      .runtime_only();
  describe_device(section, p.device);
  section
      .add("deadline", &p.deadline,
           "A job whose ranks wait so long for one that makes no progress is ended as a hang; 0: never")
      .at_least(0)
      .in("seconds")
      .runtime_only();
  section
      .add(
          "time_limit", &p.time_limit,
          "The run saves and ends with exit code 75 (run again to go on) before this much time has passed; 0: no limit")
      .at_least(0)
      .in("minutes")
      .runtime_only();
  section
      .add("stop_before_end", &p.stop_before_end,
           "How long before run.time_limit, or the end of the Slurm job (SLURM_JOB_END_TIME), the run saves and ends; "
           "of "
           "a Slurm job at most half of what is left when the run starts")
      .at_least(0)
      .in("seconds")
      .runtime_only();
}

void describe(config::Section section, ModelParams& p) {
  section.add("name", &p.name,
              "timm's name of the model, or any name where the weights file or the numbers below describe it");
  section
      .add("weights", &p.weights, "safetensors file with timm's tensor names; empty: the train stage makes the weights")
      .runtime_only();
  section.add("image_size", &p.image_size, "Side of the model's input").at_least(1).in("pixels");
  section.add("patch_size", &p.patch_size, "Side of a patch").at_least(1).in("pixels");
  section.add("channels", &p.channels, "1: luminance, 3: RGB").at_least(1).at_most(3);
  section.add("width", &p.width, "Embedding dimension d").at_least(1);
  section.add("depth", &p.depth, "Encoder blocks").at_least(1);
  section.add("heads", &p.heads, "Attention heads").at_least(1);
  section.add("hidden", &p.hidden, "Neurons of each MLP").at_least(1);
  section.add("classes", &p.classes, "Classes of the head").at_least(1);
  section.add("qkv_bias", &p.qkv_bias, "Whether the attention's q, k and v have a bias");
  section.add("class_token", &p.class_token, "Whether a class token is classified; false: the mean over patches");
  section.add(
      "short_last_block", &p.short_last_block,
      "Compute only the class token in the last block (of the others, keys and values): the same logits for fewer "
      "MACs, for the dense model too");
  section
      .add("resize", &p.resize, "Preprocessing: side that pictures are resized to before the centre crop; 0: no resize")
      .at_least(0)
      .in("pixels");
  section.add("resize_mode", &p.resize_mode,
              "Preprocessing: shorter (the shorter side) or squash (both sides); empty: the model's own");
  section.add("interpolation", &p.interpolation,
              "Preprocessing: bicubic or bilinear, antialiased; empty: the model's own");
  section.add("mean", &p.mean, "Preprocessing: mean of each channel, of values in 0..1; empty: the model's own");
  section.add("std", &p.std, "Preprocessing: standard deviation of each channel; empty: the model's own");
  section.add_enum<PrecisionChoice>(
      "precision", p.precision,
      {{"auto", PrecisionChoice::automatic,
        "int16: the fastest one, closer to float32 than bfloat16 is; bfloat16 where run.device is not cpu"},
       {"float32", PrecisionChoice::float32, ""},
       {"bfloat16", PrecisionChoice::bfloat16,
        "weights and activations rounded to bfloat16, float32 sums; on other devices than cpu sums are rounded, too"},
       {"int16", PrecisionChoice::int16,
        "weights and activations as 16-bit integers, a step for each row, exact sums; run.device cpu alone"}},
      "Numbers that the forward passes of collect and evaluate multiply; anything but products is float32. A sample of "
      "the dense model's answers is compared with float32's and printed");
  section
      .add("micro_batch", &p.micro_batch,
           "Images that one thread computes at once; part of the last bits of what LibTorch's products compute")
      .at_least(1)
      .in("images");
}

void describe(config::Section section, data::ImageSetParams& p) {
  using data::ImageSetKind;
  section.add_enum<ImageSetKind>(
      "kind", p.kind,
      {{"automatic", ImageSetKind::automatic, "by the source: a folder, *.tar, *.csv, *idx3*"},
       {"folder", ImageSetKind::folder, "a folder a class"},
       {"tar", ImageSetKind::tar, "a tar file of that layout, or many"},
       {"idx", ImageSetKind::idx, "MNIST's format, gzip or not"},
       {"csv", ImageSetKind::csv, "a table of file and label"}},
      "Format of the images");
  section.add("source", &p.source,
              "Folder, tar file, folder of tar files or pattern of their names, CSV file or IDX image file");
  section.add("labels", &p.labels, "IDX: the label file; empty: found by the image file's name");
  section.add("classes", &p.classes,
              "Folder and tar: file of class names, one a line, in the order of their indices; empty: sorted names");
  section.add("list", &p.list, "File of member names, one a line: these images, in this order");
  section.add("file_column", &p.file_column, "CSV: column of the file names");
  section.add("label_column", &p.label_column, "CSV: column of the class indices");
  section.add("root", &p.root, "CSV: folder of the files; empty: that of the CSV");
  section.add("first", &p.first, "Images left out at the beginning").at_least(0).in("images");
  section.add("count", &p.count, "Images at most; 0: all").at_least(0).in("images");
  section.add("shuffle_seed", &p.shuffle_seed, "A fixed permutation before first and count; -1: none").at_least(-1);
}

void describe(config::Section section, DataParams& p) {
  describe(section.section("calibration", "Images whose activations are collected"), p.calibration);
  describe(section.section("train", "Images of training and fine-tuning"), p.train);
  describe(section.section("validation", "Images that accuracy is measured on"), p.validation);
  section.add_enum<model::BadImages>("on_bad_image", p.on_bad_image,
                                     {{"stop", model::BadImages::stop, "an image that cannot be decoded ends the run"},
                                      {"skip", model::BadImages::skip, "it is left out, counted and named"}},
                                     "What happens with images that cannot be decoded");
  section.add("max_bad_share", &p.max_bad_share, "With skip: share of a set that may be left out")
      .at_least(0)
      .at_most(1);
}

}  // namespace

config::FieldList field_list(RunConfig& c) {
  config::FieldList list;
  config::Section root = list.root();
  describe(root.section("run", "Places and threads"), c.run);
  describe(root.section("model", "The trained Vision Transformer"), c.model);
  describe(root.section("data", "Image sets"), c.data);
  describe(root.section("train", "Training from scratch; only where model.weights is empty"), c.train);
  describe(root.section("collect", "Recording activations"), c.collect);
  describe(root.section("cluster", "k-means or HDBSCAN on the recorded activations"), c.cluster);
  describe(root.section("router", "Which expert a token goes to"), c.router);
  describe(root.section("moments", "Streaming statistics of what the router sends to each expert, over all tokens"),
           c.moments);
  describe(root.section("assemble", "Cutting experts out of the MLPs"), c.assemble);
  config::Section baseline = root.section("baseline", "VBP, the baseline that experts are compared with");
  baseline.add("enabled", &c.baseline.enabled, "Whether the baseline is made");
  describe(baseline, c.baseline.vbp);
  describe(root.section("finetune", "Distillation from the dense model"), c.finetune);
  describe(root.section("controls", "Experts evaluated with other routing than their own, for comparison"), c.controls);
  root.section("report", "The page")
      .add("title", &c.report_title, "Title of the report; empty: the run's name")
      .runtime_only();
  return list;
}

void read_config(const std::filesystem::path& file, const std::vector<std::string>& settings, RunConfig& config) {
  config::FieldList fields = field_list(config);
  config::read_yaml(file, fields);
  for (const std::string& setting : settings) config::apply_setting(setting, fields);
  config::check_required(fields, file);
}

model::Precision resolve(PrecisionChoice choice, DeviceKind kind) {
  const bool packed = kind == DeviceKind::cpu;
  switch (choice) {
    case PrecisionChoice::float32:
      return model::Precision::float32;
    case PrecisionChoice::bfloat16:
      return model::Precision::bfloat16;
    case PrecisionChoice::int16:
      if (!packed) {
        fail(ExitCode::config,
             "model.precision: int16 is a form of the CPU's own products, but run.device is {}. Set it to auto "
             "(bfloat16 "
             "there), bfloat16 or float32",
             name_of(kind));
      }
      return model::Precision::int16;
    case PrecisionChoice::automatic:
      break;
  }
  return packed ? model::kFastPrecision : model::Precision::bfloat16;
}

model::ModelDescription describe_model(const ModelParams& p, const std::optional<model::ModelDescription>& own) {
  model::ModelDescription d;
  if (own) {
    d = *own;
  } else if (const auto named = model::find_named_vit(p.name)) {
    d = {p.name, named->vit, named->preprocess};
  } else if (!p.width || !p.depth || !p.heads) {
    const std::string near = config::nearest_name(p.name, model::named_vits());
    fail(ExitCode::config,
         "model.name: '{}' is no model that is known by name{}; give a known name, or model.width, model.depth, "
         "model.heads, model.patch_size, model.image_size and model.classes",
         p.name, near.empty() ? "" : fmt::format("; did you mean {}?", near));
  } else {
    d.vit.hidden = 4 * *p.width;
    d.vit.image_size = p.image_size.value_or(d.vit.image_size);
    d.preprocess.crop = static_cast<int>(d.vit.image_size);
  }
  if (!p.name.empty()) d.name = p.name;
  const auto set = [](std::int64_t& value, const std::optional<std::int64_t>& wanted) {
    value = wanted.value_or(value);
  };
  set(d.vit.image_size, p.image_size);
  set(d.vit.patch_size, p.patch_size);
  set(d.vit.channels, p.channels);
  set(d.vit.width, p.width);
  set(d.vit.depth, p.depth);
  set(d.vit.heads, p.heads);
  set(d.vit.hidden, p.hidden);
  set(d.vit.classes, p.classes);
  if (!own) {
    d.vit.qkv_bias = p.qkv_bias;
    d.vit.class_token = p.class_token;
  }
  d.vit.short_last_block = p.short_last_block;
  model::validate(d.vit);
  data::PreprocessParams& pre = d.preprocess;
  pre.crop = static_cast<int>(d.vit.image_size);
  pre.channels = static_cast<int>(d.vit.channels);
  if (p.resize) pre.resize = static_cast<int>(*p.resize);
  const auto choose = [](const std::string& key, const std::string& value, auto& target, auto first,
                         const char* first_name, auto second, const char* second_name) {
    if (value.empty()) return;
    if (value != first_name && value != second_name) {
      fail(ExitCode::config, "model.{}: expected {} or {}, got '{}'", key, first_name, second_name, value);
    }
    target = value == first_name ? first : second;
  };
  choose("resize_mode", p.resize_mode, pre.resize_mode, data::ResizeMode::shorter, "shorter", data::ResizeMode::squash,
         "squash");
  choose("interpolation", p.interpolation, pre.interpolation, data::Interpolation::bicubic, "bicubic",
         data::Interpolation::bilinear, "bilinear");
  const auto spread = [&](const char* key, const std::vector<double>& from, std::array<double, 3>& to) {
    if (from.empty()) return;
    if (from.size() != 1 && from.size() != static_cast<std::size_t>(pre.channels)) {
      fail(ExitCode::config, "model.{}: expected one number, or one for each of {} channels, got {}", key, pre.channels,
           from.size());
    }
    for (std::size_t c = 0; c < to.size(); ++c) to[c] = from[std::min(c, from.size() - 1)];
  };
  spread("mean", p.mean, pre.mean);
  spread("std", p.std, pre.std);
  return d;
}

}  // namespace moextract::stages
