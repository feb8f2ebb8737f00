// The program: reads the command line, starts the ranks, and turns errors into one message and an exit code.
#include <fmt/format.h>

#include <c10/util/Exception.h>
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <stdexcept>

#include "app/doctor_command.h"
#include "app/images_command.h"
#include "app/inspect_command.h"
#include "app/run_command.h"
#include "app/session.h"
#include "app/store_commands.h"
#include "app/submit_command.h"
#include "app/sweep_command.h"
#include "comm/communicator.h"
#include "config/describe.h"
#include "config/reader.h"
#include "config/render.h"
#include "core/error.h"
#include "run/stop.h"
#include "stages/pipeline.h"
#include "stages/run_config.h"

namespace moextract::app {
namespace {

struct CommandLine {
  RunOptions run;
  RunReference reference;
  bool repair = false, yes = false;
  std::filesystem::path store = "runs/artefacts";
  std::string command;
  std::filesystem::path file;
  std::string prefix;
  SweepOptions sweep;
  SubmitOptions submit;
  bool token = false, follow = false, now = false, slurm = false;
};

void add_run_options(CLI::App& command, RunOptions& options) {
  command.add_option("config", options.config, "Configuration file (YAML)")->required();
  command.add_option("--set", options.settings, "Override a key, as in cluster.k=16 (may be repeated)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
}

void add_reference(CLI::App& command, RunReference& reference) {
  command.add_option("run", reference.place, "Configuration file, or the folder of a run")->required();
  command.add_option("--set", reference.settings, "Settings that the run was started with")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
}

void add_job_options(CLI::App& command, JobOptions& job) {
  command.add_option("--site", job.site, "Site file: partitions, accounts, modules; default: MOEXTRACT_SITE")
      ->type_name("FILE");
  command.add_option("--nodes", job.nodes, "Nodes of a job; 2-8: as many of these as there are free")
      ->capture_default_str();
  command.add_option("--gpus-per-node", job.gpus_per_node, "GPUs of each node, one rank each")
      ->check(CLI::Range(0, 64));
  command.add_option("--tasks-per-node", job.tasks_per_node, "Ranks of each node")->check(CLI::Range(1, 10'000));
  command.add_option("--cpus-per-task", job.cpus_per_task, "Cores of each rank")->check(CLI::Range(1, 10'000));
  command.add_option("--time", job.time, "Time limit of a job, as in 04:00:00; the run goes on in the next one");
  command.add_option("--partition", job.partition, "Partition");
  command.add_option("--account", job.account, "Account that is charged");
  command.add_option("--qos", job.qos, "Quality of service");
  command.add_option("--memory", job.memory, "Memory of each node, as in 64G");
  command.add_option("--tries", job.tries, "Starts in a row without progress after which a job gives up")
      ->check(CLI::Range(1, 1000));
  command.add_option("--container", job.container, "Image that holds the program")->type_name("IMAGE");
}

/// Jobs and sweeps.
void declare_jobs(CLI::App& app, CommandLine& line) {
  CLI::App* submit = app.add_subcommand("submit", "Submit a run to Slurm; it goes on by itself until it is done");
  submit->add_option("config", line.submit.config, "Configuration file (YAML)")->required();
  submit->add_option("--set", line.submit.settings, "Override a key, as in cluster.k=16 (may be repeated)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  add_job_options(*submit, line.submit.job);
  submit->add_option("--dependency", line.submit.dependency, "What has to end before, as in afterok:12");
  submit->add_flag("--per-stage", line.submit.per_stage, "A job for each stage; those that need no GPU ask for none");
  submit->add_flag("--print", line.submit.print, "Print the script, submit nothing");
  submit->callback([&line] { line.command = "submit"; });
  CLI::App* logs = app.add_subcommand("logs", "Print what the job of a run has said");
  add_reference(*logs, line.reference);
  logs->add_flag("-f,--follow", line.follow, "Go on as it grows");
  logs->callback([&line] { line.command = "logs"; });
  CLI::App* cancel = app.add_subcommand("cancel", "End the job of a run: it saves and leaves");
  add_reference(*cancel, line.reference);
  cancel->add_flag("--now", line.now, "Without saving");
  cancel->callback([&line] { line.command = "cancel"; });
  CLI::App* sweep = app.add_subcommand("sweep", "Many runs of one configuration: plan them, run them, compare them");
  sweep->add_option("file", line.sweep.file, "Sweep file (YAML)")->required();
  sweep->add_option("action", line.sweep.action, "plan, run (here), submit (to Slurm), status, cancel or collect")
      ->required()
      ->check(CLI::IsMember({"plan", "run", "submit", "status", "cancel", "collect"}));
  sweep->add_option("--jobs", line.sweep.jobs, "run, submit: how many at a time; default: as the file says")
      ->check(CLI::Range(1, 10'000));
  sweep->add_option("--threads", line.sweep.threads, "run: threads of each; 0: the cores divided by the jobs")
      ->check(CLI::Range(0, 10'000));
  sweep->add_flag("--all", line.sweep.all, "plan, status: list every run");
  sweep->add_flag("--print", line.sweep.print, "submit: print the scripts, submit nothing");
  sweep->add_flag("--now", line.sweep.now, "cancel: without saving");
  add_job_options(*sweep, line.sweep.job);
  sweep->callback([&line] { line.command = "sweep"; });
}

void declare(CLI::App& app, CommandLine& line) {
  app.set_version_flag("--version", std::string("moextract ") + MOEXTRACT_VERSION);
  app.require_subcommand(1);
  app.footer("Keys of the configuration: moextract reference. Exit codes: docs/guide.md.");
  const std::vector<std::pair<std::string, std::string>> stages{
      {"run", "Run all stages; finished ones are found"},
      {"train", "Train a model from scratch"},
      {"collect", "Record activations of the calibration images"},
      {"cluster", "Cluster the recorded activations"},
      {"moments", "Stream moments of what the router sends to each expert"},
      {"assemble", "Cut experts out of the MLPs, and the VBP baseline"},
      {"finetune", "Distil from the dense model"},
      {"evaluate", "Measure accuracy, MACs, parameters and speed"},
      {"report", "Write the report of what is there"}};
  for (const auto& [name, text] : stages) {
    CLI::App* command = app.add_subcommand(name, text);
    add_run_options(*command, line.run);
    command->add_flag("--dry-run", line.run.dry_run, "Print the plan, do nothing");
    if (name == "run" || name == "collect" || name == "moments") {
      CLI::Option* dry = command->get_option("--dry-run");
      command
          ->add_option("--images", line.run.plan_images,
                       "With --dry-run: plan collect, cluster and moments for so many images")
          ->needs(dry)
          ->check(CLI::PositiveNumber);
      command
          ->add_option("--ranks", line.run.plan_ranks,
                       "With --dry-run: plan collect, cluster and moments for so many ranks")
          ->needs(dry)
          ->check(CLI::PositiveNumber);
      command
          ->add_option("--rate", line.run.plan_rate,
                       "With --dry-run: images a second of one rank in collect, as a small run says")
          ->needs(dry)
          ->check(CLI::PositiveNumber);
      command
          ->add_option("--moments-rate", line.run.plan_moments_rate,
                       "With --dry-run: images a second of one rank in a pass of moments, as a small run says")
          ->needs(dry)
          ->check(CLI::PositiveNumber);
    }
    command->add_flag("--explain", line.run.explain, "Print why each stage would run, do nothing");
    command->add_flag("-v,--verbose", line.run.verbose, "Say more");
    if (name == "run") {
      command
          ->add_option("--stage", line.run.only,
                       "Only this stage, as --dry-run names it, and what it needs; no report (may be repeated)")
          ->type_name("NAME")
          ->allow_extra_args(false);
    }
    command->callback([&line, stage = name] { line.command = line.run.stage = stage; });
  }
  CLI::App* status = app.add_subcommand("status", "Print the state of each stage of a run");
  add_reference(*status, line.reference);
  status->add_flag("--token", line.token, "Print a text that changes with whatever is finished, nothing else");
  status->callback([&line] { line.command = "status"; });
  CLI::App* verify = app.add_subcommand("verify", "Check every file of a run's artefacts against its hash");
  add_reference(*verify, line.reference);
  verify->add_flag("--repair", line.repair, "Take broken files away, so that the next run makes them again");
  verify->callback([&line] { line.command = "verify"; });
  declare_jobs(app, line);
  CLI::App* clean = app.add_subcommand("clean", "List artefacts that no run refers to, or remove them");
  clean->add_option("--store", line.store, "Folder of the artefacts (run.store)")->capture_default_str();
  clean->add_flag("--yes", line.yes, "Remove them; without it nothing is touched");
  clean->callback([&line] { line.command = "clean"; });
  CLI::App* doctor = app.add_subcommand("doctor", "Print versions, ranks, cores and threads; start it like a run");
  CLI::Option* slurm =
      doctor->add_flag("--slurm", line.slurm, "Compare what a job asks for with what the cluster offers");
  doctor->add_option("config", line.submit.config, "With --slurm: the configuration that is to be submitted");
  doctor->add_option("--set", line.submit.settings, "Override a key of the configuration")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  add_job_options(*doctor, line.submit.job);
  for (CLI::Option* option : doctor->get_options()) {
    if (option != slurm && option != doctor->get_help_ptr()) option->needs(slurm);
  }
  doctor->callback([&line] { line.command = "doctor"; });
  CLI::App* images = app.add_subcommand(
      "images", "Decode every picture of a configuration; name what is broken, double or labelled in two ways");
  add_reference(*images, line.reference);
  images->callback([&line] { line.command = "images"; });
  CLI::App* inspect =
      app.add_subcommand("inspect", "Describe a shard, model, clusters file, manifest or any safetensors file");
  inspect->add_option("file", line.file, "File or artefact folder")->required();
  inspect->callback([&line] { line.command = "inspect"; });
  CLI::App* reference = app.add_subcommand("reference", "Print the keys of the configuration");
  reference->add_option("prefix", line.prefix, "Only keys below this one, as in cluster");
  reference->callback([&line] { line.command = "reference"; });
  CLI::App* markdown = app.add_subcommand("reference-page", "Print docs/configuration.md");
  markdown->callback([&line] { line.command = "reference-page"; });
}

/// "colect: did you mean collect?", or, where nothing is near, "colect;": the next step follows.
std::string with_nearest(const std::string& name, const std::vector<std::string>& known) {
  const std::string near = config::nearest_name(name, known);
  return name + (near.empty() ? ";" : ": did you mean " + near + "?");
}

/// Commands of one process: with several ranks rank 0 does them.
int execute_alone(const CommandLine& line) {
  if (line.command == "verify")
    return verify_command(line.reference, line.repair) ? 0 : static_cast<int>(ExitCode::input);
  if (line.command == "images") return images_command(line.reference) ? 0 : static_cast<int>(ExitCode::input);
  if (line.command == "status" && line.token) fmt::print("{}\n", progress_token(line.reference));
  if (line.command == "status" && !line.token) status_command(line.reference);
  if (line.command == "submit") submit_command(line.submit);
  if (line.command == "logs") logs_command(line.reference, line.follow);
  if (line.command == "cancel") cancel_command(line.reference, line.now);
  if (line.command == "sweep") sweep_command(line.sweep);
  if (line.command == "doctor") slurm_doctor(line.submit);
  if (line.command == "clean") clean_command(line.store, line.yes);
  if (line.command == "inspect") fmt::print("{}", inspect_file(line.file));
  if (line.command == "reference" || line.command == "reference-page") {
    stages::RunConfig config;
    const config::FieldList fields = stages::field_list(config);
    const std::string text =
        line.command == "reference" ? config::help_text(fields, line.prefix) : config::reference_page(fields);
    if (text.empty()) {
      std::vector<std::string> known;
      for (const config::Field& field : fields.fields()) known.push_back(field.path);
      for (const config::SectionDoc& section : fields.sections()) known.push_back(section.path);
      fail(ExitCode::usage, "there is no key {} moextract reference prints all", with_nearest(line.prefix, known));
    }
    fmt::print("{}", text);
  }
  return 0;
}

int execute(const CommandLine& line, comm::Communicator& comm) {
  if (line.command == "doctor" && !line.slurm) {
    doctor_command(comm);
    return 0;
  }
  if (line.command != line.run.stage) {
    std::int32_t code = 0;
    comm.together([&] {
      if (comm.is_root()) code = execute_alone(line);
    });
    comm.broadcast(std::span<std::int32_t>(&code, 1));
    return code;
  }
  run_command(line.run, comm);
  return 0;
}

int report_error(const std::exception& error, ExitCode code, comm::Communicator& comm) {
  const bool agreed = dynamic_cast<const comm::RemoteFailure*>(&error) != nullptr;
  if (comm.size() == 1 || (agreed && comm.is_root())) {
    if (code == ExitCode::resume) {
      const std::string reason = run::stop_reason();
      fmt::print(stderr, "moextract: interrupted{}: {}\n", reason.empty() ? "" : " (" + reason + ")", error.what());
    } else {
      fmt::print(stderr, "moextract: error: {}\n", error.what());
    }
  } else if (!agreed) {
    // The others do not know, and may be waiting for this rank.
    fmt::print(stderr, "moextract: error: rank {}: {}\n", comm.rank(), error.what());
    comm.abort(code);
  }
  return static_cast<int>(code);
}

int run_program(const CommandLine& line, comm::Communicator& comm) {
  try {
    return execute(line, comm);
  } catch (const UserError& error) {
    return report_error(error, error.code(), comm);
  } catch (const BugError& error) {
    return report_error(error, ExitCode::bug, comm);
  } catch (const c10::Error& error) {
    // What LibTorch says without its own stack.
    return report_error(std::runtime_error(fmt::format("LibTorch: {}", error.what_without_backtrace())),
                        ExitCode::other, comm);
  } catch (const std::exception& error) {
    return report_error(error, ExitCode::other, comm);
  }
}

/// A word in the place of a command that is none: said here, as the parser would only say that one is missing.
bool is_unknown_command(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return false;
  std::vector<std::string> known;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    known.push_back(command->get_name());
  if (std::find(known.begin(), known.end(), argv[1]) != known.end()) return false;
  fmt::print(stderr, "moextract: error: there is no command {} moextract --help lists them\n",
             with_nearest(argv[1], known));
  return true;
}

}  // namespace
}  // namespace moextract::app

int main(int argc, char** argv) {
  using namespace moextract;
  using namespace moextract::app;
  CLI::App app("moextract: mixtures of experts cut out of trained vision networks", "moextract");
  CommandLine line;
  declare(app, line);
  if (is_unknown_command(app, argc, argv)) return static_cast<int>(ExitCode::usage);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ExitCode::usage);
  }
  try {
    Session session(argc, argv);
    return run_program(line, session.comm());
  } catch (const UserError& error) {
    fmt::print(stderr, "moextract: error: {}\n", error.what());
    return static_cast<int>(error.code());
  }
}
