#include "tests/support/run_program.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "kernels/base/error.h"

namespace qm {
namespace {

using Clock = std::chrono::steady_clock;

struct Pipe {
  int read_end = -1;
  int write_end = -1;

  Pipe() {
    int ends[2];
    QM_CHECK(pipe2(ends, O_CLOEXEC) == 0, IoError, "pipe: ", std::strerror(errno));
    read_end = ends[0];
    write_end = ends[1];
  }
  ~Pipe() {
    close_write();
    close(read_end);
  }
  void close_write() {
    if (write_end >= 0) close(write_end);
    write_end = -1;
  }
};

// Runs in the child, between fork and exec.
[[noreturn]] void become(const std::vector<std::string>& command, const RunOptions& options, const Pipe& out,
                         const Pipe& error) {
  setpgid(0, 0);
  const int nothing = open("/dev/null", O_RDONLY);
  dup2(nothing, STDIN_FILENO);
  dup2(out.write_end, STDOUT_FILENO);
  dup2(error.write_end, STDERR_FILENO);
  for (const std::string& entry : options.environment) putenv(const_cast<char*>(entry.c_str()));
  if (!options.folder.empty() && chdir(options.folder.c_str()) != 0) _exit(126);
  std::vector<char*> arguments;
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  execvp(arguments[0], arguments.data());
  _exit(127);
}

// Appends what is ready to be read; false at the end of the stream.
bool read_some(int descriptor, std::string& text) {
  std::array<char, 65536> buffer;
  const ssize_t got = read(descriptor, buffer.data(), buffer.size());
  if (got > 0) text.append(buffer.data(), static_cast<std::size_t>(got));
  return got > 0 || (got < 0 && errno == EINTR);
}

// Reads both streams until they end; false when the deadline came first.
bool collect(const Pipe& out, const Pipe& error, Clock::time_point deadline, ProgramResult& result) {
  std::array<pollfd, 2> streams{{{out.read_end, POLLIN, 0}, {error.read_end, POLLIN, 0}}};
  std::array<std::string*, 2> texts{&result.out, &result.error};
  int open_streams = 2;
  while (open_streams > 0) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return false;
    if (poll(streams.data(), streams.size(), static_cast<int>(left)) <= 0) continue;
    for (std::size_t index = 0; index < streams.size(); ++index) {
      if (streams[index].revents == 0 || read_some(streams[index].fd, *texts[index])) continue;
      streams[index].fd = -1;  // poll() skips negative descriptors
      --open_streams;
    }
  }
  return true;
}

void wait_for(pid_t child, ProgramResult& result) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    QM_CHECK(errno == EINTR, IoError, "waitpid: ", std::strerror(errno));
  }
  if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
}

}  // namespace

std::string ProgramResult::describe() const {
  return concat(timed_out ? "timed out, " : "", "exit code ", exit_code, ", signal ", signal, ", ", seconds,
                " s\n--- stdout\n", out, "\n--- stderr\n", error);
}

ProgramResult run_program(const std::vector<std::string>& command, const RunOptions& options) {
  Pipe out;
  Pipe error;
  const auto start = Clock::now();
  const auto deadline =
      start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options.timeout_seconds));
  const pid_t child = fork();
  QM_CHECK(child >= 0, IoError, "fork: ", std::strerror(errno));
  if (child == 0) become(command, options, out, error);
  setpgid(child, child);  // here too: whoever comes first, the group exists before it may have to be killed
  out.close_write();
  error.close_write();

  ProgramResult result;
  if (!collect(out, error, deadline, result)) {
    result.timed_out = true;
    kill(-child, SIGKILL);
  }
  wait_for(child, result);
  result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return result;
}

// tests/gpu_report.sh runs both programs where another machine has built them, and says where the other and mpirun lie.
std::string path_of_quadmamba() {
  const char* elsewhere = std::getenv("QM_PROGRAM");
  return elsewhere ? elsewhere : QM_PROGRAM;
}

std::string path_of_mpirun() {
  const char* elsewhere = std::getenv("QM_MPIRUN");
  return elsewhere ? elsewhere : QM_MPIEXEC;
}

ProgramResult run_quadmamba(const std::vector<std::string>& arguments, const RunOptions& options) {
  std::vector<std::string> command{path_of_quadmamba()};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return run_program(command, options);
}

ProgramResult run_quadmamba_ranks(int ranks, const std::vector<std::string>& arguments, RunOptions options) {
  std::vector<std::string> command{path_of_mpirun(), "--oversubscribe", "-np", std::to_string(ranks),
                                   path_of_quadmamba()};
  command.insert(command.end(), arguments.begin(), arguments.end());
  for (const char* entry : {"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "OMP_NUM_THREADS=1"}) {
    options.environment.insert(options.environment.begin(), entry);
  }
  return run_program(command, options);
}

}  // namespace qm
