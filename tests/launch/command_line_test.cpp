#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "launch/command.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"

namespace qm {
namespace {

/// A command line with every kind of argument.
struct Example {
  std::string input, device = "auto", folder;
  std::int64_t count = 3;
  std::uint64_t seed = 0;
  bool force = false;
  std::vector<std::string> settings, files;
  std::string recipe;
  CommandLine line{"example", "Shows every kind of argument."};

  Example() {
    line.required_option("input", "DIR", input, "what is read");
    line.option("folder", "DIR", folder, "where");
    line.choice("device", {"auto", "cpu"}, device, "what computes");
    line.option("count", "N", count, {1, 10}, "how many");
    line.option("seed", "N", seed, "of all numbers");
    line.flag("force", force, "do it anyway");
    line.assignments("set", settings, "recipe keys");
    line.positional("RECIPE", recipe, "a recipe");
    line.positionals("FILE", files, "files");
  }

  /// The error that `arguments` raise; empty if they raise none.
  std::string error_of(const std::vector<std::string>& arguments) const {
    try {
      line.parse(arguments);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  }
};

using Strings = std::vector<std::string>;

TEST(launch, command_line_assigns_what_is_given) {
  Example example;
  EXPECT_TRUE(example.line.parse(Strings{"--input", "in", "r.toml", "--device=cpu", "--count", "10", "--seed",
                                         "18446744073709551615", "--force", "a", "b c"}));
  EXPECT_EQ(example.input, "in");
  EXPECT_EQ(example.recipe, "r.toml");
  EXPECT_EQ(example.device, "cpu");
  EXPECT_EQ(example.count, 10);
  EXPECT_EQ(example.seed, 18446744073709551615ull);
  EXPECT_TRUE(example.force);
  EXPECT_EQ(example.files, (Strings{"a", "b c"}));
  EXPECT_EQ(example.folder, "");
}

TEST(launch, command_line_leaves_defaults) {
  Example example;
  EXPECT_TRUE(example.line.parse(Strings{"--input", "in", "r.toml", "a"}));
  EXPECT_EQ(example.device, "auto");
  EXPECT_EQ(example.count, 3);
  EXPECT_FALSE(example.force);
  EXPECT_TRUE(example.settings.empty());
}

TEST(launch, command_line_set_takes_every_assignment_that_follows) {
  Example example;
  EXPECT_TRUE(example.line.parse(
      Strings{"--set", "train.epochs=3", "model.size=\"nano\"", "x=", "r.toml", "a=b", "--set=c=d", "--input", "in"}));
  EXPECT_EQ(example.settings, (Strings{"train.epochs=3", "model.size=\"nano\"", "x=", "c=d"}));
  EXPECT_EQ(example.recipe, "r.toml");
  EXPECT_EQ(example.files, (Strings{"a=b"}));
}

TEST(launch, command_line_takes_anything_after_two_dashes) {
  Example example;
  EXPECT_TRUE(example.line.parse(Strings{"--input=--odd", "--", "--recipe", "--help"}));
  EXPECT_EQ(example.input, "--odd");
  EXPECT_EQ(example.recipe, "--recipe");
  EXPECT_EQ(example.files, (Strings{"--help"}));
}

TEST(launch, command_line_errors_name_the_argument) {
  const Example example;
  const auto expect = [&](const Strings& arguments, const std::string& part) {
    const std::string error = example.error_of(arguments);
    EXPECT_NE(error.find(part), std::string::npos) << "expected '" << part << "' in '" << error << "'";
    EXPECT_TRUE(error.starts_with("example: ")) << error;
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  };
  const auto with_rest = [](Strings arguments) {
    arguments.insert(arguments.end(), {"r.toml", "a"});
    return arguments;
  };
  expect(with_rest({}), "--input DIR is missing");
  expect({"--input", "in"}, "RECIPE is missing");
  expect({"--input", "in", "r.toml"}, "FILE is missing");
  expect({"r.toml", "a", "--input"}, "--input");
  expect(with_rest({"--input", ""}), "--input: expected DIR, got ''");
  expect(with_rest({"--input="}), "--input");
  expect(with_rest({"--input", "--force"}), "--input");
  expect(with_rest({"--input", "--frce"}), "--input: expected DIR, got '--frce'");
  expect(with_rest({"--input", "in", "--inpt", "x"}), "unknown option --inpt");
  expect(with_rest({"--inp", "in"}), "unknown option --inp");
  expect(with_rest({"--input", "in", "-x"}), "unknown option -x");
  expect(with_rest({"--input", "in", "--input", "in"}), "--input is given twice");
  expect(with_rest({"--input", "in", "--force=yes"}), "--force");
  expect(with_rest({"--input", "in", "--device", "gpu"}), "--device: expected auto or cpu, got 'gpu'");
  expect(with_rest({"--input", "in", "--set", "epochs"}), "--set: expected key=value, got 'epochs'");
  expect({"--input", "in", ""}, "RECIPE is empty");
  for (const char* count : {"0", "11", "-1", "3x", "0x3", "3.0", "99999999999999999999", " 3"}) {
    expect(with_rest({"--input", "in", "--count", count}),
           concat("--count: expected a whole number from 1 to 10, got '", count, "'"));
  }
  for (const char* seed : {"-1", "18446744073709551616", "one"}) {
    expect(with_rest({"--input", "in", "--seed", seed}), "--seed: expected a whole number");
  }
}

TEST(launch, command_line_without_positionals_refuses_one) {
  const CommandLine line("example", "");
  try {
    line.parse(Strings{"stray"});
    ADD_FAILURE() << "accepted a stray argument";
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(), "example: unexpected argument 'stray'; see quadmamba example --help");
  }
}

TEST(launch, command_line_help_names_every_argument_and_default) {
  const std::string help = Example().line.help();
  for (const char* part : {"Usage: quadmamba example --input DIR [options] RECIPE FILE …", "--device auto|cpu",
                           "what computes [auto]", "how many [3]", "--set key=value …", "--force", "--help"}) {
    EXPECT_NE(help.find(part), std::string::npos) << part << " in\n" << help;
  }
}

/// One line on stderr that holds `part`, nothing on stdout, this exit code.
void expect_failure(const ProgramResult& result, int exit_code, const std::string& part) {
  EXPECT_EQ(result.exit_code, exit_code) << result.describe();
  EXPECT_EQ(result.out, "") << result.describe();
  EXPECT_TRUE(result.error.starts_with("quadmamba: ")) << result.describe();
  EXPECT_NE(result.error.find(part), std::string::npos) << result.describe();
  EXPECT_EQ(std::count(result.error.begin(), result.error.end(), '\n'), 1) << result.describe();
}

TEST(launch, program_shows_help_for_itself_and_every_command) {
  const ProgramResult overview = run_quadmamba({"--help"});
  EXPECT_EQ(overview.exit_code, 0) << overview.describe();
  for (const char* command :
       {"pack", "train", "eval", "predict", "inspect", "bench", "data-grid", "glyphs", "quadrants", "doctor"}) {
    EXPECT_NE(overview.out.find(concat("\n  ", command)), std::string::npos) << overview.describe();
    const ProgramResult help = run_quadmamba({command, "--help"});
    EXPECT_EQ(help.exit_code, 0) << help.describe();
    EXPECT_TRUE(help.out.starts_with(concat("Usage: quadmamba ", command))) << help.describe();
    EXPECT_EQ(help.error, "") << help.describe();
  }
}

TEST(launch, program_tells_its_version) {
  const ProgramResult result = run_quadmamba({"--version"});
  EXPECT_EQ(result.exit_code, 0) << result.describe();
  EXPECT_TRUE(result.out.starts_with("quadmamba ")) << result.describe();
  EXPECT_GT(result.out.size(), std::string("quadmamba \n").size()) << result.describe();
}

TEST(launch, program_refuses_what_it_does_not_understand) {
  expect_failure(run_quadmamba({}), 2, "expected a command");
  expect_failure(run_quadmamba({"trian"}), 2, "unknown command 'trian'");
  expect_failure(run_quadmamba({"--verbose"}), 2, "unknown command '--verbose'");
  expect_failure(run_quadmamba({"pack", "--split", "train"}), 2, "pack: --input DIR|TAR is missing");
  for (const char* command :
       {"pack", "train", "eval", "predict", "inspect", "bench", "data-grid", "glyphs", "quadrants"}) {
    expect_failure(run_quadmamba({command, "--no-such-option"}), 2, "unknown option --no-such-option");
    expect_failure(run_quadmamba({command}), 2, "missing");
  }
}

TEST(launch, program_refuses_options_that_do_not_go_together) {
  expect_failure(run_quadmamba({"inspect", "--hash", "--recipe", "a.h5"}), 2, "either --hash or --recipe");
  const std::string recipe = QM_SOURCE_DIR "/recipes/imagenet_small.toml";
  expect_failure(run_quadmamba({"bench", "data", recipe, "--data", "shards", "--json"}), 2, "bench data: --json");
}

TEST(launch, inspect_of_a_network_of_four_thousand_blocks_takes_seconds) {
  const TemporaryFolder folder;
  std::ofstream(folder / "deep.toml") << R"(
    model = { dim = 16, depths = [1000, 1000, 1000, 1000], classes = 10, image_size = 32 }
    train = { global_batch = 8, epochs = 1 }
    optimizer = { learning_rate = 1e-3 })";
  const ProgramResult result =
      run_quadmamba({"inspect", folder / "deep.toml"}, {.environment = {}, .timeout_seconds = 5, .folder = {}});
  EXPECT_EQ(result.exit_code, 0) << result.describe();
  EXPECT_NE(result.out.find("layers.3"), std::string::npos) << result.describe();
}

TEST(launch, program_fails_with_one_line) {
  const TemporaryFolder folder;
  std::ofstream(folder / "file") << "not a folder";
  expect_failure(run_quadmamba({"glyphs", "--output", folder / "file"}), 1, folder / "file");
  expect_failure(run_quadmamba({"inspect", "of two\nlines.toml"}), 1, "of two lines.toml");
}

TEST(launch, program_fails_when_its_output_cannot_be_written) {
  const ProgramResult result = run_program({"bash", "-c", "exec \"$0\" --version > /dev/full", QM_PROGRAM});
  expect_failure(result, 1, "standard output");
}

TEST(launch, program_generates_and_packs_images) {
  const TemporaryFolder folder;
  const ProgramResult glyphs =
      run_quadmamba({"glyphs", "--output", folder / "glyphs", "--train", "30", "--val", "10", "--seed", "7"});
  ASSERT_EQ(glyphs.exit_code, 0) << glyphs.describe();
  EXPECT_TRUE(std::filesystem::exists(folder / "glyphs/val/boxes.csv"));
  const Strings pack{"pack",     "--input", folder / "glyphs/train", "--split", "train", "--output", folder / "shards",
                     "--shards", "2"};
  const ProgramResult packed = run_quadmamba(pack);
  ASSERT_EQ(packed.exit_code, 0) << packed.describe();
  EXPECT_NE(packed.out.find("30 images of 10 classes, "), std::string::npos) << packed.describe();
  EXPECT_NE(packed.out.find(" kB, in 2 shards\n"), std::string::npos) << packed.describe();
  EXPECT_TRUE(std::filesystem::exists(folder / "shards/train-00001-of-00002.h5"));
  expect_failure(run_quadmamba(pack), 1, "train-0000");  // never overwritten unasked
}

TEST(launch, program_of_one_process_refuses_mpirun) {
  const TemporaryFolder folder;
  const ProgramResult result = run_quadmamba_ranks(2, {"glyphs", "--output", folder / "glyphs", "--train", "10"});
  EXPECT_NE(result.exit_code, 0) << result.describe();
  EXPECT_NE(result.error.find("glyphs: runs as one process"), std::string::npos) << result.describe();
}

TEST(launch, program_reports_usage_once_under_mpirun) {
  const ProgramResult result = run_quadmamba_ranks(2, {"train", "--no-such-option"});
  EXPECT_NE(result.exit_code, 0) << result.describe();
  const std::string part = "unknown option --no-such-option";
  const std::size_t first = result.error.find(part);
  EXPECT_NE(first, std::string::npos) << result.describe();
  EXPECT_EQ(result.error.find(part, first + 1), std::string::npos) << result.describe();
}

}  // namespace
}  // namespace qm
