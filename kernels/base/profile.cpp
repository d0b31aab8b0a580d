#include "kernels/base/profile.h"

#include <chrono>
#include <map>

namespace qm {
namespace {

using Clock = std::chrono::steady_clock;

Profile* current = nullptr;

}  // namespace

struct Profile::Ranges {
  struct Range {
    Stream stream;
    const char* name;
    OpCost cost;
    Clock::time_point start, end;                  // on the CPU, where calls run at once
    void *start_mark = nullptr, *end_mark = nullptr;  // on a GPU
  };
  std::vector<Range> list;

  ~Ranges() { clear(); }

  void clear() {
#ifdef QM_HAVE_CUDA
    for (const Range& range : list) {
      if (range.start_mark) cuda::destroy_mark(range.start_mark);
      if (range.end_mark) cuda::destroy_mark(range.end_mark);
    }
#endif
    list.clear();
  }
};

Profile::Profile() : ranges_(std::make_unique<Ranges>()) {
  QM_CHECK(!current, Error, "profile: another one is already running");
  current = this;
}

Profile::~Profile() { current = nullptr; }

void Profile::reset() { ranges_->clear(); }

std::vector<OpCall> Profile::calls() const {
  std::vector<OpCall> calls;
  for (const Ranges::Range& range : ranges_->list) {
    OpCall& call = calls.emplace_back(OpCall{.name = range.name, .seconds = 0, .cost = range.cost});
#ifdef QM_HAVE_CUDA
    if (range.end_mark) {
      synchronize(range.stream);
      call.seconds = cuda::seconds_between(range.start_mark, range.end_mark);
      continue;
    }
#endif
    call.seconds = std::chrono::duration<double>(range.end - range.start).count();
  }
  return calls;
}

std::vector<OpTime> Profile::times() const {
  std::vector<OpTime> times;
  std::map<std::string, std::size_t> index;
  for (const OpCall& call : calls()) {
    const auto [place, is_new] = index.emplace(call.name, times.size());
    if (is_new) times.push_back({.name = call.name});
    OpTime& time = times[place->second];
    ++time.calls;
    time.seconds += call.seconds;
    time.cost.bytes += call.cost.bytes;
    time.cost.flops += call.cost.flops;
  }
  return times;
}

void start_profiler(Device device) {
  QM_CHECK(device.type == DeviceType::kCuda, Error, "profiling steps needs a GPU, and this run computes on ",
           device.name());
#ifdef QM_HAVE_CUDA
  cuda::start_profiler(current_stream(device));
#endif
}

void stop_profiler(Device device) {
#ifdef QM_HAVE_CUDA
  if (device.type == DeviceType::kCuda) cuda::stop_profiler(current_stream(device));
#endif
}

OpRange::OpRange(const Stream& stream, const char* name, OpCost cost) : stream_(stream) {
#ifdef QM_HAVE_CUDA
  cuda::push_range(name);
#endif
  if (!current) return;
  auto& list = current->ranges_->list;
  index_ = static_cast<std::int64_t>(list.size());
  list.push_back({.stream = stream, .name = name, .cost = cost});
#ifdef QM_HAVE_CUDA
  if (stream.device.type == DeviceType::kCuda) {
    list.back().start_mark = cuda::record_mark(stream);
    return;
  }
#endif
  list.back().start = Clock::now();
}

OpRange::~OpRange() {
#ifdef QM_HAVE_CUDA
  cuda::pop_range();
#endif
  if (index_ < 0 || !current || index_ >= static_cast<std::int64_t>(current->ranges_->list.size())) return;
  auto& range = current->ranges_->list[static_cast<std::size_t>(index_)];
#ifdef QM_HAVE_CUDA
  if (stream_.device.type == DeviceType::kCuda) {
    range.end_mark = cuda::record_mark(stream_);
    return;
  }
#endif
  range.end = Clock::now();
}

}  // namespace qm
