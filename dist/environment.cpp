#include "dist/environment.h"

#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <iostream>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "dist/mpi_check.h"
#include "dist/mpi_communicator.h"
#include "dist/mpi_lock.h"
#include "dist/mpi_wait.h"
#include "dist/nccl_communicator.h"
#include "dist/rank_names.h"
#include "dist/start_watch.h"
#include "kernels/base/error.h"

namespace qm {
namespace {

/// Variables that hold the number of processes started, the innermost launcher first: inside a Slurm job, mpirun's
/// daemons are tasks of a step, whose variables the ranks inherit.
constexpr const char* kSizeVariables[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"};
/// Variables that tell of a launcher, but not of the number.
constexpr const char* kRankVariables[] = {"PMIX_RANK", "PMI_RANK"};

/// The same for what is good to know before MPI has started, but not needed. −1 where no launcher says it.
int number_of_launcher(std::initializer_list<const char*> variables) {
  for (const char* variable : variables) {
    const char* text = std::getenv(variable);
    if (!text) continue;
    int number = -1;
    std::from_chars(text, text + std::strlen(text), number);
    return number;
  }
  return -1;
}

Attendance attendance_of_launcher() {
  return {number_of_launcher({"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"}),
          number_of_launcher({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}),
          number_of_launcher({"OMPI_COMM_WORLD_LOCAL_SIZE"})};
}

/// How long abort() waits for a thread that is in MPI.
constexpr std::chrono::seconds kLockPatience{2};
/// How long a process that has not the last word waits for the end: mpirun takes some 2 s to kill a job.
constexpr std::chrono::seconds kEndPatience{8};

int parse_size(const char* variable, const char* text) {
  int size = 0;
  const char* end = text + std::strlen(text);
  const auto result = std::from_chars(text, end, size);
  QM_CHECK(result.ec == std::errc() && result.ptr == end && size > 0, CommError, "environment variable ", variable,
           ": expected a number of processes, got '", text, "'");
  return size;
}

void start_mpi() {
  int started = 0;
  MPI_Initialized(&started);
  QM_CHECK(!started, CommError, "MPI was started before: a process has one Environment, once");
  int provided = 0;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  QM_CHECK(provided >= MPI_THREAD_SERIALIZED, CommError, "MPI does not support threads (MPI_THREAD_SERIALIZED)");
}

struct HostPlace {
  int rank = 0, size = 1;
};

/// This process's place among those of its host, by a shared-memory split of the world.
HostPlace find_host_place() {
  MPI_Comm host = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host), "MPI_Comm_split_type");
  HostPlace place;
  check_mpi(MPI_Comm_rank(host, &place.rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(host, &place.size), "MPI_Comm_size");
  check_mpi(MPI_Comm_free(&host), "MPI_Comm_free");
  return place;
}

/// Collective; by environment_waiter.
std::vector<std::string> gather_hosts(int size) {
  using Name = std::array<char, HOST_NAME_MAX + 1>;
  Name own{};
  const std::string host = name_of_host();
  std::copy(host.begin(), host.end(), own.begin());
  std::vector<Name> names(static_cast<std::size_t>(size));
  environment_waiter->run("MPI_Iallgather of the hosts", [&](MPI_Request* request) {
    return MPI_Iallgather(own.data(), sizeof(Name), MPI_CHAR, names.data(), sizeof(Name), MPI_CHAR, MPI_COMM_WORLD,
                          request);
  });
  std::vector<std::string> hosts;
  for (const Name& name : names) hosts.emplace_back(name.data());
  return hosts;
}

}  // namespace

std::optional<Launch> detect_launch() {
  for (const char* variable : kSizeVariables) {
    if (const char* text = std::getenv(variable)) return Launch{variable, parse_size(variable, text)};
  }
  for (const char* variable : kRankVariables) {
    if (std::getenv(variable)) return Launch{variable, 0};
  }
  return std::nullopt;
}

Environment::Environment(std::chrono::seconds deadline, Report report)
    : deadline_(deadline),
      report_(std::move(report)),
      attendance_(attendance_of_launcher()),
      exceptions_at_start_(std::uncaught_exceptions()) {
  const std::optional<Launch> launch = detect_launch();
  if (!launch) return;
  const StartWatch watch(attendance_, "the start of MPI", deadline_,
                         [this](const std::string& what) { give_up(what); });
  start_mpi();
  uses_mpi_ = true;
  check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
  // Processes that a foreign launcher started would otherwise each take themselves for the only one, and all write to
  // the same run folder.
  QM_CHECK(launch->processes == 0 || launch->processes == size_, CommError, launch->variable, " says that ",
           launch->processes, " processes were started, but MPI joined ", size_,
           ": start them with this MPI's own mpirun, or with srun --mpi=pmix");
  const HostPlace place = find_host_place();
  local_rank_ = place.rank;
  local_size_ = place.size;
  MPI_Comm own = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &own), "MPI_Comm_dup");
  environment_waiter = std::make_unique<MpiWaiter>(own, deadline_);
  set_hosts_of_ranks(gather_hosts(size_));
}

Environment::~Environment() {
  if (!uses_mpi_) return;
  if (std::uncaught_exceptions() > exceptions_at_start_) abort(1);
  try {  // MPI_Finalize waits for all, and could not say for whom
    environment_waiter->run("MPI_Ibarrier at the end",
                            [](MPI_Request* request) { return MPI_Ibarrier(MPI_COMM_WORLD, request); });
  } catch (const CommError& error) {
    give_up(error.what());
  }
  environment_waiter.reset();
  const StartWatch watch(attendance_, "the end of MPI", deadline_, [this](const std::string& what) { give_up(what); });
  MPI_Finalize();
}

void Environment::give_up(const std::string& what) const {
  if (has_last_word()) {
    if (report_) {
      report_(what);
    } else {
      std::cerr << what + "\n";
    }
  }
  _exit(1);  // MPI_Abort would wait where everything waits; the launcher ends the job
}

bool Environment::has_last_word() const {
  if (attendance_.is_first()) return true;
  std::this_thread::sleep_for(kEndPatience);
  return true;  // the first has not ended the job
}

GpuSupply Environment::gpu_supply() const {
  const GpuSupply own{local_size_, cuda_device_count()};
  if (size_ == 1) return own;
  const int own_numbers[2] = {own.ranks, own.gpus};
  std::vector<int> numbers(2 * static_cast<std::size_t>(size_));
  environment_waiter->run("MPI_Iallgather of the GPUs", [&](MPI_Request* request) {
    return MPI_Iallgather(own_numbers, 2, MPI_INT, numbers.data(), 2, MPI_INT, MPI_COMM_WORLD, request);
  });
  GpuSupply scarcest{numbers[0], numbers[1]};
  for (std::size_t i = 2; i < numbers.size(); i += 2) {
    const GpuSupply supply{numbers[i], numbers[i + 1]};
    if (supply.gpus - supply.ranks < scarcest.gpus - scarcest.ranks) scarcest = supply;
  }
  return scarcest;
}

std::unique_ptr<Communicator> Environment::make_communicator(Device device, std::chrono::seconds deadline,
                                                             [[maybe_unused]] Report report) const {
  if (size_ == 1) return make_single_communicator();
  if (device.type == DeviceType::kCpu) return make_mpi_communicator(local_rank_, deadline);
#ifdef QM_HAVE_CUDA
  if (!report) {
    report = [this](const std::string& what) {
      std::cerr << what + "\n";
      abort(1);
    };
  }
  // Reported before it is thrown: on the way to whoever catches it memory would be freed, which waits for the GPU, which
  // waits for the rank that is gone.
  std::unique_ptr<Communicator> mpi = make_mpi_communicator(local_rank_, deadline, report);
  return make_nccl_communicator(device, std::move(mpi), deadline, std::move(report));
#else
  throw_no_backend("communicator", device);
#endif
}

void Environment::abort(int code) const noexcept {
  if (size_ == 1) return;
  // A thread may wait inside MPI, or hold the lock, for ever: then the launcher learns it from the end of this process.
  if (std::unique_lock lock(mpi_lock, kLockPatience); lock) MPI_Abort(MPI_COMM_WORLD, code);
  _exit(code);
}

}  // namespace qm
