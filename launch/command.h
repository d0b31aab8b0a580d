// The parts that every command of the program shares: what a command is, and how it reads its command line.
//
//   int run_pack(std::span<const std::string> arguments, const Environment&) {
//     CommandLine line("pack", "Packs a folder of images into shards.");
//     std::string input;
//     std::int64_t shards = 8;
//     bool skip_bad = false;
//     line.required_option("input", "DIR", input, "folder with one sub-folder a class");
//     line.option("shards", "N", shards, {1, 99999}, "files to write");
//     line.flag("skip-bad", skip_bad, "leave out images that cannot be read");
//     if (!line.parse(arguments)) return 0;  // --help was asked for and printed
//     …
//   }
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "kernels/base/error.h"

namespace qm {

class Environment;

/// A command line that cannot be understood: the program ends with exit code 2 instead of 1.
class UsageError : public ConfigError {
 public:
  using ConfigError::ConfigError;
};

/// Runs a command: `arguments` is what follows its name, the result the program's exit code. Throws UsageError for a
/// command line that cannot be understood and qm::Error for everything else.
using CommandFunction = int(std::span<const std::string> arguments, const Environment& environment);

struct Command {
  const char* name;
  const char* summary;  ///< one line for `quadmamba --help`
  CommandFunction* run;
  bool parallel;       ///< whether it may run as several processes under mpirun
  bool stops = false;  ///< whether it looks for the signals of launch/stop.h
};

/// The inclusive range that an integer option accepts.
struct Limits {
  std::int64_t lowest;
  std::int64_t highest;
};

/// The options and positional arguments of one command. Declarations bind variables, whose values at that moment are
/// the defaults that --help shows; parse() assigns them. Variables must outlive parse().
class CommandLine {
 public:
  CommandLine(std::string command, std::string description);

  /// `--name`: sets `value` to true.
  void flag(const std::string& name, bool& value, const std::string& help);
  /// `--name TEXT`: any text but the empty one, so that "" as a default means "not given".
  void option(const std::string& name, const std::string& placeholder, std::string& value, const std::string& help);
  /// `--name N`: a whole number within `limits`.
  void option(const std::string& name, const std::string& placeholder, std::int64_t& value, Limits limits,
              const std::string& help);
  /// `--name N`: any unsigned 64-bit number.
  void option(const std::string& name, const std::string& placeholder, std::uint64_t& value, const std::string& help);
  /// `--name a|b|c`: one of `choices`.
  void choice(const std::string& name, std::initializer_list<const char*> choices, std::string& value,
              const std::string& help);
  /// `--name key=value …`: appends; may be repeated, and takes every key=value that follows it.
  void assignments(const std::string& name, std::vector<std::string>& values, const std::string& help);

  /// An option whose absence is an error.
  void required_option(const std::string& name, const std::string& placeholder, std::string& value,
                       const std::string& help);
  /// A positional argument whose absence is an error.
  void positional(const std::string& placeholder, std::string& value, const std::string& help);
  /// One or more positional arguments; declare it last.
  void positionals(const std::string& placeholder, std::vector<std::string>& values, const std::string& help);

  /// Assigns the bound variables. Returns false when the arguments ask for --help (or -h), which it prints on stdout.
  /// Throws UsageError that names the option or argument: unknown, without its value, given twice, out of range,
  /// missing, or one too many. Options are never abbreviated; `--` ends them.
  bool parse(std::span<const std::string> arguments) const;

  /// The text that --help prints.
  std::string help() const;

 private:
  struct Option {
    std::string name;
    std::string placeholder = {};  ///< empty for a flag
    std::string help;
    std::string default_text = {};  ///< empty: nothing to show
    bool required = false;
    bool repeats = false;
    std::function<void(const std::string&)> assign;  ///< throws UsageError
  };
  struct Positional {
    std::string placeholder;
    std::string help;
    bool repeats = false;
    std::function<void(const std::string&)> assign;
  };

  struct Token {
    std::string option;  ///< empty for a positional argument
    std::string value;
    bool separate;  ///< whether the value was an argument of its own, as in `--name value`
  };

  std::vector<Token> tokenize(std::span<const std::string> arguments) const;
  std::vector<std::string> expand_assignments(std::span<const std::string> arguments) const;
  void assign_options(const std::vector<Token>& tokens) const;
  void assign_positionals(const std::vector<Token>& tokens) const;
  [[noreturn]] void fail(const std::string& what) const;

  std::string command_;
  std::string description_;
  std::vector<Option> options_;
  std::vector<Positional> positionals_;
};

}  // namespace qm
