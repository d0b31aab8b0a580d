#include "launch/command.h"

#include <algorithm>
#include <boost/program_options.hpp>
#include <cctype>
#include <charconv>
#include <iostream>
#include <set>
#include <utility>

namespace po = boost::program_options;

namespace qm {
namespace {

template <class Integer>
bool parse_integer(const std::string& text, Integer& value) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && stop == end;
}

std::string join(const std::vector<std::string>& parts, const char* separator) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : separator) + part;
  return text;
}

// A dotted key, '=' and anything: "train.epochs=3", but no "--data=x" and no "runs/a=b.toml".
bool is_assignment(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) return false;
  return std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(equals),
                     [](unsigned char letter) { return std::isalnum(letter) || letter == '.' || letter == '_'; });
}

// "  --name TEXT      help", the help starting at a fixed column, on a line of its own if need be.
std::string help_line(const std::string& left, const std::string& help) {
  constexpr std::size_t kHelpColumn = 28;
  const std::size_t columns = static_cast<std::size_t>(
      std::count_if(left.begin(), left.end(), [](unsigned char byte) { return (byte & 0xc0u) != 0x80u; }));  // UTF-8
  const bool fits = columns + 4 <= kHelpColumn;
  const std::string gap = fits ? std::string(kHelpColumn - columns - 2, ' ') : "\n" + std::string(kHelpColumn, ' ');
  return "  " + left + gap + help + "\n";
}

}  // namespace

CommandLine::CommandLine(std::string command, std::string description)
    : command_(std::move(command)), description_(std::move(description)) {}

void CommandLine::flag(const std::string& name, bool& value, const std::string& help) {
  options_.push_back({.name = name, .help = help, .assign = [&value](const std::string&) { value = true; }});
}

void CommandLine::option(const std::string& name, const std::string& placeholder, std::string& value,
                         const std::string& help) {
  options_.push_back({.name = name,
                      .placeholder = placeholder,
                      .help = help,
                      .default_text = value,
                      .assign = [&value](const std::string& text) { value = text; }});
}

void CommandLine::option(const std::string& name, const std::string& placeholder, std::int64_t& value, Limits limits,
                         const std::string& help) {
  const auto assign = [this, &value, name, limits](const std::string& text) {
    std::int64_t parsed = 0;
    if (!parse_integer(text, parsed) || parsed < limits.lowest || parsed > limits.highest) {
      fail(concat("--", name, ": expected a whole number from ", limits.lowest, " to ", limits.highest, ", got '", text,
                  "'"));
    }
    value = parsed;
  };
  options_.push_back({.name = name,
                      .placeholder = placeholder,
                      .help = help,
                      .default_text = std::to_string(value),
                      .assign = assign});
}

void CommandLine::option(const std::string& name, const std::string& placeholder, std::uint64_t& value,
                         const std::string& help) {
  const auto assign = [this, &value, name](const std::string& text) {
    std::uint64_t parsed = 0;
    if (!parse_integer(text, parsed)) {
      fail(concat("--", name, ": expected a whole number from 0 to 2^64 - 1, got '", text, "'"));
    }
    value = parsed;
  };
  options_.push_back({.name = name,
                      .placeholder = placeholder,
                      .help = help,
                      .default_text = std::to_string(value),
                      .assign = assign});
}

void CommandLine::choice(const std::string& name, std::initializer_list<const char*> choices, std::string& value,
                         const std::string& help) {
  const std::vector<std::string> allowed(choices.begin(), choices.end());
  const auto assign = [this, &value, name, allowed](const std::string& text) {
    if (std::find(allowed.begin(), allowed.end(), text) == allowed.end()) {
      fail(concat("--", name, ": expected ", join(allowed, " or "), ", got '", text, "'"));
    }
    value = text;
  };
  options_.push_back(
      {.name = name, .placeholder = join(allowed, "|"), .help = help, .default_text = value, .assign = assign});
}

void CommandLine::assignments(const std::string& name, std::vector<std::string>& values, const std::string& help) {
  const auto assign = [this, &values, name](const std::string& text) {
    if (!is_assignment(text)) fail(concat("--", name, ": expected key=value, got '", text, "'"));
    values.push_back(text);
  };
  options_.push_back({.name = name, .placeholder = "key=value …", .help = help, .repeats = true, .assign = assign});
}

void CommandLine::required_option(const std::string& name, const std::string& placeholder, std::string& value,
                                  const std::string& help) {
  options_.push_back({.name = name,
                      .placeholder = placeholder,
                      .help = help,
                      .required = true,
                      .assign = [&value](const std::string& text) { value = text; }});
}

void CommandLine::positional(const std::string& placeholder, std::string& value, const std::string& help) {
  positionals_.push_back({placeholder, help, false, [&value](const std::string& text) { value = text; }});
}

void CommandLine::positionals(const std::string& placeholder, std::vector<std::string>& values,
                              const std::string& help) {
  positionals_.push_back({placeholder, help, true, [&values](const std::string& text) { values.push_back(text); }});
}

bool CommandLine::parse(std::span<const std::string> arguments) const {
  const std::vector<Token> tokens = tokenize(arguments);
  if (std::any_of(tokens.begin(), tokens.end(), [](const Token& token) { return token.option == "help"; })) {
    std::cout << help();
    return false;
  }
  assign_options(tokens);
  assign_positionals(tokens);
  return true;
}

std::vector<CommandLine::Token> CommandLine::tokenize(std::span<const std::string> arguments) const {
  po::options_description known;
  known.add_options()("help,h", "");
  for (const Option& option : options_) {
    // The description owns its semantic.
    const po::value_semantic* semantic = option.placeholder.empty()
                                             ? static_cast<po::value_semantic*>(new po::untyped_value(true))
                                             : po::value<std::string>();
    known.add_options()(option.name.c_str(), semantic, "");
  }
  const int style = po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
  std::vector<Token> tokens;
  try {
    po::command_line_parser parser(expand_assignments(arguments));
    for (const po::option& item : parser.options(known).style(style).run().options) {
      const bool separate = item.original_tokens.size() > 1;
      tokens.push_back({item.string_key, item.value.empty() ? "" : item.value.front(), separate});
    }
  } catch (const po::unknown_option& error) {
    fail("unknown option " + error.get_option_name());
  } catch (const po::error& error) {
    fail(error.what());
  }
  return tokens;
}

// `--set a=1 b=2` becomes `--set a=1 --set b=2`.
std::vector<std::string> CommandLine::expand_assignments(std::span<const std::string> arguments) const {
  std::vector<std::string> expanded;
  std::string open_option;  // the assignments option whose values are being read
  for (const std::string& argument : arguments) {
    const bool continues = !open_option.empty() && expanded.back() != open_option;
    if (continues && is_assignment(argument)) {
      expanded.push_back(open_option);
    } else if (continues || open_option.empty()) {
      const auto opens = [&](const Option& option) { return option.repeats && argument == "--" + option.name; };
      open_option = std::any_of(options_.begin(), options_.end(), opens) ? argument : "";
    }
    expanded.push_back(argument);
  }
  return expanded;
}

void CommandLine::assign_options(const std::vector<Token>& tokens) const {
  std::set<std::string> given;
  for (const Token& token : tokens) {
    if (token.option.empty()) continue;
    const auto option = std::find_if(options_.begin(), options_.end(),
                                     [&](const Option& candidate) { return candidate.name == token.option; });
    const bool first = given.insert(token.option).second;
    if (!first && !option->repeats) fail(concat("--", token.option, " is given twice"));
    const bool takes_value = !option->placeholder.empty();
    // A value that looks like an option is one whose own value was forgotten; --name=--value is explicit.
    if (takes_value && (token.value.empty() || (token.separate && token.value.starts_with("--")))) {
      fail(concat("--", token.option, ": expected ", option->placeholder, ", got '", token.value, "'"));
    }
    option->assign(token.value);
  }
  for (const Option& option : options_) {
    if (option.required && !given.contains(option.name)) {
      fail(concat("--", option.name, " ", option.placeholder, " is missing"));
    }
  }
}

void CommandLine::assign_positionals(const std::vector<Token>& tokens) const {
  std::size_t next = 0;
  bool satisfied = false;  // whether positionals_[next], a repeating one, has a value
  for (const Token& token : tokens) {
    if (!token.option.empty()) continue;
    if (next == positionals_.size()) fail(concat("unexpected argument '", token.value, "'"));
    if (token.value.empty()) fail(concat(positionals_[next].placeholder, " is empty"));
    positionals_[next].assign(token.value);
    if (positionals_[next].repeats) {
      satisfied = true;
    } else {
      ++next;
    }
  }
  if (next < positionals_.size() && !satisfied) fail(concat(positionals_[next].placeholder, " is missing"));
}

std::string CommandLine::help() const {
  std::string usage = "Usage: quadmamba " + command_;
  for (const Option& option : options_) {
    if (option.required) usage += " --" + option.name + " " + option.placeholder;
  }
  if (std::any_of(options_.begin(), options_.end(), [](const Option& option) { return !option.required; })) {
    usage += " [options]";
  }
  for (const Positional& positional : positionals_) {
    usage += " " + positional.placeholder + (positional.repeats ? " …" : "");
  }

  std::string text = usage + "\n\n" + description_ + "\n\n";
  for (const Positional& positional : positionals_) text += help_line(positional.placeholder, positional.help);
  for (const Option& option : options_) {
    const std::string left = "--" + option.name + (option.placeholder.empty() ? "" : " " + option.placeholder);
    text += help_line(left, option.help + (option.default_text.empty() ? "" : " [" + option.default_text + "]"));
  }
  return text + help_line("--help", "print this and end");
}

void CommandLine::fail(const std::string& what) const {
  throw UsageError(concat(command_, ": ", what, "; see quadmamba ", command_, " --help"));
}

}  // namespace qm
