// The program: reads the command line, starts the ranks, and turns errors into one message and an exit code.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "app/doctor_command.h"
#include "app/inspect_command.h"
#include "app/run_command.h"
#include "app/session.h"
#include "app/store_commands.h"
#include "comm/communicator.h"
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

void declare(CLI::App& app, CommandLine& line) {
  app.set_version_flag("--version", std::string("moextract ") + MOEXTRACT_VERSION);
  app.require_subcommand(1);
  app.footer("Keys of the configuration: moextract reference. Exit codes: docs/guide.md.");
  const std::vector<std::pair<std::string, std::string>> stages{
      {"run", "Run all stages; finished ones are found"},
      {"train", "Train a model from scratch"},
      {"collect", "Record activations of the calibration images"},
      {"cluster", "Cluster the recorded activations"},
      {"assemble", "Cut experts out of the MLPs, and the VBP baseline"},
      {"finetune", "Distil from the dense model"},
      {"evaluate", "Measure accuracy, MACs, parameters and speed"},
      {"report", "Write the report of what is there"}};
  for (const auto& [name, text] : stages) {
    CLI::App* command = app.add_subcommand(name, text);
    add_run_options(*command, line.run);
    command->add_flag("--dry-run", line.run.dry_run, "Print the plan, do nothing");
    command->add_flag("--explain", line.run.explain, "Print why each stage would run, do nothing");
    command->add_flag("-v,--verbose", line.run.verbose, "Say more");
    command->callback([&line, stage = name] { line.command = line.run.stage = stage; });
  }
  CLI::App* status = app.add_subcommand("status", "Print the state of each stage of a run");
  add_reference(*status, line.reference);
  status->callback([&line] { line.command = "status"; });
  CLI::App* verify = app.add_subcommand("verify", "Check every file of a run's artefacts against its hash");
  add_reference(*verify, line.reference);
  verify->add_flag("--repair", line.repair, "Take broken files away, so that the next run makes them again");
  verify->callback([&line] { line.command = "verify"; });
  CLI::App* clean = app.add_subcommand("clean", "List artefacts that no run refers to, or remove them");
  clean->add_option("--store", line.store, "Folder of the artefacts (run.store)")->capture_default_str();
  clean->add_flag("--yes", line.yes, "Remove them; without it nothing is touched");
  clean->callback([&line] { line.command = "clean"; });
  CLI::App* doctor = app.add_subcommand("doctor", "Print versions, ranks, cores and threads; start it like a run");
  doctor->callback([&line] { line.command = "doctor"; });
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

/// Commands of one process: with several ranks rank 0 does them.
int execute_alone(const CommandLine& line) {
  if (line.command == "verify")
    return verify_command(line.reference, line.repair) ? 0 : static_cast<int>(ExitCode::input);
  if (line.command == "status") status_command(line.reference);
  if (line.command == "clean") clean_command(line.store, line.yes);
  if (line.command == "inspect") fmt::print("{}", inspect_file(line.file));
  if (line.command == "reference" || line.command == "reference-page") {
    stages::RunConfig config;
    const config::FieldList fields = stages::field_list(config);
    fmt::print("{}",
               line.command == "reference" ? config::help_text(fields, line.prefix) : config::reference_page(fields));
  }
  return 0;
}

int execute(const CommandLine& line, comm::Communicator& comm) {
  if (line.command == "doctor") {
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
  } catch (const std::exception& error) {
    return report_error(error, ExitCode::other, comm);
  }
}

}  // namespace
}  // namespace moextract::app

int main(int argc, char** argv) {
  using namespace moextract;
  using namespace moextract::app;
  CLI::App app("moextract: mixtures of experts cut out of trained vision networks", "moextract");
  CommandLine line;
  declare(app, line);
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
